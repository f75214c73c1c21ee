//! The rows in PostgreSQL, or in what speaks its protocol: plain SQL, one statement a transaction, and every statement
//! tried again if the database could not serialize it. Each call has a time limit.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls};

use crate::address::Address;
use crate::code::{Code, LASTS};
use crate::keys::PoolId;
use crate::record::{Kind, Record, RowId};
use crate::store::{Hold, Listed, Refusal, Row, Store, StoreError};
use crate::tls::Tls;

/// The version of the tables.
const SCHEMA: i32 = 1;
/// How long a call may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How often a statement is tried that the database could not serialize.
const TRIES: u32 = 10;

/// The tables. Each statement may be repeated.
const TABLES: [&str; 4] = [
    "create table if not exists codex_pool_schema (version int4 primary key)",
    "create table if not exists codex_pool_records (pool bytea not null, row_id bytea not null, kind text not null, \
     format int4 not null, epoch int4 not null, revision int8 not null, sealed bytea not null, signature bytea not \
     null, held_until timestamptz, primary key (pool, row_id))",
    "create table if not exists codex_pool_codes (code_id bytea primary key, bundle bytea not null, ends_at timestamptz \
     not null)",
    "insert into codex_pool_schema (version) values (1) on conflict do nothing",
];

/// How long a row is still held, milliseconds.
const HELD: &str = "coalesce(greatest(extract(epoch from (held_until - now())) * 1000, 0), 0)::float8";

/// A connection to the database, for one pool. It is made at the first call, and again after a failure.
#[derive(Debug)]
pub struct Postgres {
    address: Address,
    pool: PoolId,
    runtime: Runtime,
    client: Option<Client>,
    limit: Duration,
}

/// What a statement is given.
type Params<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

impl Postgres {
    /// Returns a connection that is not made yet.
    ///
    /// # Errors
    /// This machine cannot make connections.
    pub fn new(address: Address, pool: PoolId) -> Result<Postgres, StoreError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| StoreError::Down(format!("this machine cannot connect ({e})")))?;
        Ok(Postgres { address, pool, runtime, client: None, limit: LIMIT })
    }

    /// The same with another time limit for each call.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Postgres {
        self.limit = limit;
        self
    }

    /// Returns where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn pool(&self) -> PoolId {
        self.pool
    }

    /// Sets another time limit for each call.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Makes the tables, where they are not there yet.
    ///
    /// # Errors
    /// The database cannot be asked, refuses, or is used by a newer version.
    pub fn create_tables(&mut self) -> Result<(), StoreError> {
        self.connect()?;
        match self.check_schema() {
            Err(StoreError::Refused(Refusal::NoPool, _)) => {}
            checked => return checked,
        }
        TABLES.iter().try_for_each(|sql| self.execute(sql, &[]).map(drop))?;
        self.check_schema()
    }

    /// Checks that the tables are there and of this version.
    ///
    /// # Errors
    /// They are not, or the database cannot be asked.
    pub fn check_schema(&mut self) -> Result<(), StoreError> {
        let rows = self.query("select max(version) from codex_pool_schema", &[])?;
        match rows.first().and_then(|row| row.get::<_, Option<i32>>(0)) {
            Some(version) if version > SCHEMA => Err(StoreError::Newer),
            Some(_) => Ok(()),
            None => Err(StoreError::Refused(
                Refusal::NoPool,
                format!("{}: no pool is shared in it", self.address),
            )),
        }
    }

    /// Keeps the bundle of a code until the code ends, and removes those that have ended.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn add_code(&mut self, code: &Code, bundle: &[u8]) -> Result<(), StoreError> {
        self.execute("delete from codex_pool_codes where ends_at <= now()", &[])?;
        let seconds = LASTS as f64;
        self.execute(
            "insert into codex_pool_codes (code_id, bundle, ends_at) values ($1, $2, now() + $3 * interval '1 second') \
             on conflict do nothing",
            &[
                (&code.id.as_slice(), Type::BYTEA),
                (&bundle, Type::BYTEA),
                (&seconds, Type::FLOAT8),
            ],
        )
        .map(drop)
    }

    /// Takes the bundle of a code out. `None`: it was used before, or has ended.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn take_code(&mut self, code: &Code) -> Result<Option<Vec<u8>>, StoreError> {
        let rows = self.query(
            "delete from codex_pool_codes where code_id = $1 and ends_at > now() returning bundle",
            &[(&code.id.as_slice(), Type::BYTEA)],
        );
        // A delete that was not answered may have been done: the code is used up either way.
        Ok(rows?.first().map(|row| row.get(0)))
    }

    fn connect(&mut self) -> Result<(), StoreError> {
        if self.client.as_ref().is_some_and(|client| !client.is_closed()) {
            return Ok(());
        }
        let config = self.address.config.clone();
        let tls = match self.address.tls {
            true => Some(
                Tls::new(self.address.root.as_deref())
                    .map_err(|why| StoreError::Refused(Refusal::Certificates, why))?,
            ),
            false => None,
        };
        let connecting = async move {
            match tls {
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    tokio::spawn(connection);
                    Ok(client)
                }
                Some(tls) => {
                    let (client, connection) = config.connect(tls).await?;
                    tokio::spawn(connection);
                    Ok(client)
                }
            }
        };
        let limit = self.limit;
        let client = self.runtime.block_on(async { timeout(limit, connecting).await });
        self.client = Some(match client {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(explain(&error, &self.address, false)),
            Err(_) => return Err(StoreError::Down(format!("{} does not answer", self.address))),
        });
        Ok(())
    }

    pub(crate) fn query(
        &mut self,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Vec<tokio_postgres::Row>, StoreError> {
        self.call(false, async |client| client.query_typed(sql, params).await)
    }

    /// Returns how many rows were changed.
    pub(crate) fn execute(&mut self, sql: &str, params: Params<'_>) -> Result<u64, StoreError> {
        self.call(true, async |client| client.execute_typed(sql, params).await)
    }

    /// `writes`: if there is no answer, it is not known whether it was done.
    fn call<T>(
        &mut self,
        writes: bool,
        work: impl AsyncFn(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, StoreError> {
        let mut pause = Duration::from_millis(5);
        for _ in 0..TRIES {
            self.connect()?;
            let Some(client) = &self.client else { break };
            let limit = self.limit;
            let error = match self.runtime.block_on(async { timeout(limit, work(client)).await }) {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => error,
                Err(_) => {
                    self.client = None;
                    let why = format!("{} does not answer", self.address);
                    return Err(if writes { StoreError::Unknown(why) } else { StoreError::Down(why) });
                }
            };
            let not_serialized =
                [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].map(Some);
            if !not_serialized.contains(&error.code().cloned()) {
                if error.as_db_error().is_none() {
                    self.client = None;
                }
                return Err(explain(&error, &self.address, writes));
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
        Err(StoreError::Down(format!("{} is too busy", self.address)))
    }
}

/// Returns what an error of the database means. `asked`: something may have been done.
fn explain(error: &tokio_postgres::Error, address: &Address, asked: bool) -> StoreError {
    let source = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let Some(answer) = error.as_db_error() else {
        let why = format!("{address}: {source}");
        return if asked { StoreError::Unknown(why) } else { StoreError::Down(why) };
    };
    let (code, words) = (answer.code(), answer.message());
    let refused = |refusal, what: &str| StoreError::Refused(refusal, format!("{address}: {what} ({words})"));
    if [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION].contains(code) {
        refused(Refusal::Password, "user or password is wrong")
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        refused(Refusal::Database, "there is no such database")
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        refused(Refusal::Rights, "the user may not do that")
    } else if *code == SqlState::UNDEFINED_TABLE {
        refused(Refusal::NoPool, "no pool is shared in it")
    } else if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        refused(Refusal::ReadOnly, "it can only be read, as a standby can")
    } else if *code == SqlState::DISK_FULL {
        refused(Refusal::Full, "its disk is full")
    } else if *code == SqlState::TOO_MANY_CONNECTIONS {
        StoreError::Down(format!("{address} has too many connections ({words})"))
    } else if *code == SqlState::CANNOT_CONNECT_NOW {
        StoreError::Down(format!("{address} is not ready ({words})"))
    } else if asked && [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN].contains(code) {
        StoreError::Unknown(format!("{address} was stopped ({words})"))
    } else if [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN].contains(code) {
        StoreError::Down(format!("{address} was stopped ({words})"))
    } else {
        refused(Refusal::Other, "it failed")
    }
}

/// Returns the record of a row; `None` if it is of a kind that this version does not know.
fn record(row: &tokio_postgres::Row) -> Option<Row> {
    let bytes = |at: usize| row.get::<_, &[u8]>(at);
    let number = |at: usize| u32::try_from(row.get::<_, i32>(at)).ok();
    let record = Record {
        row: RowId(bytes(0).try_into().ok()?),
        kind: Kind::parse(row.get(1))?,
        format: number(2)?,
        epoch: number(3)?,
        revision: u64::try_from(row.get::<_, i64>(4)).ok()?,
        sealed: bytes(5).to_vec(),
        signature: bytes(6).try_into().ok()?,
    };
    let held = row.get::<_, f64>(7).clamp(0.0, 86_400_000.0);
    Some(Row { record, held: Duration::from_millis(held as u64) })
}

impl Store for Postgres {
    fn read(&mut self, row: RowId) -> Result<Option<Row>, StoreError> {
        let sql = format!(
            "select row_id, kind, format, epoch, revision, sealed, signature, {HELD} from codex_pool_records where pool \
             = $1 and row_id = $2"
        );
        let pool = self.pool.0;
        let rows = self.query(&sql, &[(&pool.as_slice(), Type::BYTEA), (&row.0.as_slice(), Type::BYTEA)])?;
        Ok(rows.first().and_then(record))
    }

    fn read_rows(&mut self, rows: &[RowId]) -> Result<Vec<Row>, StoreError> {
        let sql = format!(
            "select row_id, kind, format, epoch, revision, sealed, signature, {HELD} from codex_pool_records where pool \
             = $1 and row_id = any($2)"
        );
        let pool = self.pool.0;
        let rows: Vec<&[u8]> = rows.iter().map(|row| row.0.as_slice()).collect();
        let found = self.query(&sql, &[(&pool.as_slice(), Type::BYTEA), (&rows, Type::BYTEA_ARRAY)])?;
        Ok(found.iter().filter_map(record).collect())
    }

    fn read_all(&mut self) -> Result<Vec<Row>, StoreError> {
        let sql = format!(
            "select row_id, kind, format, epoch, revision, sealed, signature, {HELD} from codex_pool_records where pool \
             = $1"
        );
        let pool = self.pool.0;
        let rows = self.query(&sql, &[(&pool.as_slice(), Type::BYTEA)])?;
        Ok(rows.iter().filter_map(record).collect())
    }

    fn list(&mut self) -> Result<Vec<Listed>, StoreError> {
        let pool = self.pool.0;
        let rows = self.query(
            "select row_id, kind, revision, substr(signature, 1, 8) from codex_pool_records where pool = $1",
            &[(&pool.as_slice(), Type::BYTEA)],
        )?;
        let listed = |row: &tokio_postgres::Row| {
            Some(Listed {
                row: RowId(row.get::<_, &[u8]>(0).try_into().ok()?),
                kind: Kind::parse(row.get(1))?,
                revision: u64::try_from(row.get::<_, i64>(2)).ok()?,
                signature: row.get::<_, &[u8]>(3).try_into().ok()?,
            })
        };
        Ok(rows.iter().filter_map(listed).collect())
    }

    fn write(&mut self, record: &Record, over: u64, hold: Hold) -> Result<bool, StoreError> {
        const FROM_NOW: &str = "now() + $9 * interval '1 millisecond'";
        let (allowed, until) = match hold {
            Hold::Without | Hold::Drop => ("true", "null"),
            Hold::Take(_) => ("(held_until is null or held_until <= now())", FROM_NOW),
            Hold::Set(_) => ("true", FROM_NOW),
            Hold::Keep => ("held_until > now()", "held_until"),
        };
        let millis = match hold {
            Hold::Take(time) | Hold::Set(time) => Some(time.as_millis() as f64),
            Hold::Without | Hold::Keep | Hold::Drop => None,
        };
        let too_large = |_| StoreError::Refused(Refusal::Other, "a number is too large for it".to_owned());
        let format = i32::try_from(record.format).map_err(too_large)?;
        let epoch = i32::try_from(record.epoch).map_err(too_large)?;
        let revision = i64::try_from(record.revision).map_err(too_large)?;
        let over = i64::try_from(over).map_err(too_large)?;
        let pool = self.pool.0;
        let (pool, row) = (pool.as_slice(), record.row.0.as_slice());
        let (kind, sealed, signature) =
            (record.kind.as_str(), record.sealed.as_slice(), record.signature.as_slice());
        let mut params: Vec<(&(dyn ToSql + Sync), Type)> = vec![
            (&pool, Type::BYTEA),
            (&row, Type::BYTEA),
            (&kind, Type::TEXT),
            (&format, Type::INT4),
            (&epoch, Type::INT4),
            (&revision, Type::INT8),
            (&sealed, Type::BYTEA),
            (&signature, Type::BYTEA),
        ];
        let sql = if over == 0 {
            // What nobody has cannot be kept.
            let until = if until == "held_until" { "null" } else { until };
            format!(
                "insert into codex_pool_records (pool, row_id, kind, format, epoch, revision, sealed, signature, \
                 held_until) values ($1, $2, $3, $4, $5, $6, $7, $8, {until}) on conflict do nothing"
            )
        } else {
            let over_at = if millis.is_some() { 10 } else { 9 };
            format!(
                "update codex_pool_records set kind = $3, format = $4, epoch = $5, revision = $6, sealed = $7, \
                 signature = $8, held_until = {until} where pool = $1 and row_id = $2 and revision = ${over_at} and \
                 {allowed}"
            )
        };
        if let Some(millis) = &millis {
            params.push((millis, Type::FLOAT8));
        }
        if over > 0 {
            params.push((&over, Type::INT8));
        }
        Ok(self.execute(&sql, &params)? == 1)
    }
}
