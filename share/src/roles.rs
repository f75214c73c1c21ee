//! What only the owner of the tables does in PostgreSQL: users for runners, who can read the records and no more, and
//! removing the rows of a pool that ends or of keys that are void.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio_postgres::types::Type;
use zeroize::Zeroizing;

use crate::code::Code;
use crate::keys::random;
use crate::postgres::Postgres;
use crate::store::StoreError;

/// A user of the database that can only read.
#[derive(Debug)]
pub struct Reader {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: Zeroizing<String>,
}

impl Reader {
    /// Returns a user with a password that nothing can guess. It is not there yet.
    pub fn random() -> Reader {
        let name = random::<6>().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let password = Zeroizing::new(URL_SAFE_NO_PAD.encode(random::<24>()));
        Reader { name: format!("codex_pool_{name}"), password }
    }
}

/// Where a code is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeState {
    /// It waits for its machine.
    Waits,
    /// It has ended, and no machine has used it.
    Ended,
    /// It was used, or has ended long ago.
    Gone,
}

impl Postgres {
    /// Returns how many other pools are in the database.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn other_pools(&mut self) -> Result<u64, StoreError> {
        let pool = self.pool().0;
        let rows = self.query(
            "select count(distinct pool) from codex_pool_records where pool <> $1",
            &[(&pool.as_slice(), Type::BYTEA)],
        )?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0).unsigned_abs()))
    }

    /// Makes a user that can read the records, and take out the bundle of a code. The database gets no password, but what
    /// it needs to check one, so that none is in its log.
    ///
    /// # Errors
    /// The database cannot be asked, or this user may not make others.
    pub fn add_reader(&mut self, reader: &Reader) -> Result<(), StoreError> {
        let verifier = postgres_protocol::password::scram_sha_256(reader.password.as_bytes());
        let name = &reader.name;
        self.execute(&format!("create role {name} login password '{verifier}'"), &[])?;
        let granted = [
            format!("grant select on codex_pool_schema, codex_pool_records, codex_pool_codes to {name}"),
            format!("grant delete on codex_pool_codes to {name}"),
        ];
        let granted = granted.iter().try_for_each(|sql| self.execute(sql, &[]).map(drop));
        if granted.is_err() {
            let _ = self.drop_reader(name);
        }
        granted
    }

    /// Removes such a user. Its connections end with the next statement.
    ///
    /// # Errors
    /// The database cannot be asked, or does not let this user do that.
    pub fn drop_reader(&mut self, name: &str) -> Result<(), StoreError> {
        // Names are written into the statements.
        let ours = |c: char| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit();
        if !name.starts_with("codex_pool_") || !name.chars().all(ours) {
            return Ok(());
        }
        let there =
            self.query("select 1 from pg_catalog.pg_roles where rolname = $1", &[(&name, Type::TEXT)])?;
        if there.is_empty() {
            return Ok(());
        }
        let tables = "codex_pool_schema, codex_pool_records, codex_pool_codes";
        self.execute(&format!("revoke all on {tables} from {name}"), &[])?;
        self.execute(&format!("drop role {name}"), &[]).map(drop)
    }

    /// Returns whether the user of this connection can change records.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn can_write(&mut self) -> Result<bool, StoreError> {
        let sql = "select has_table_privilege('codex_pool_records', 'insert') or \
                   has_table_privilege('codex_pool_records', 'update') or \
                   has_table_privilege('codex_pool_records', 'delete')";
        Ok(self.query(sql, &[])?.first().is_none_or(|row| row.get::<_, Option<bool>>(0) != Some(false)))
    }

    /// Returns the bundle of a code, and leaves it there. `None`: it was used before, or has ended.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn look_at_code(&mut self, code: &Code) -> Result<Option<Vec<u8>>, StoreError> {
        let rows = self.query(
            "select bundle from codex_pool_codes where code_id = $1 and ends_at > now()",
            &[(&code.id.as_slice(), Type::BYTEA)],
        )?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    /// Returns where a code is.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn code_state(&mut self, id: &[u8]) -> Result<CodeState, StoreError> {
        let sql = "select ends_at > now() from codex_pool_codes where code_id = $1";
        let rows = self.query(sql, &[(&id, Type::BYTEA)])?;
        Ok(match rows.first().map(|row| row.get::<_, bool>(0)) {
            Some(true) => CodeState::Waits,
            Some(false) => CodeState::Ended,
            None => CodeState::Gone,
        })
    }

    /// Returns how many records there are of keys before this epoch.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn rows_before(&mut self, epoch: u32) -> Result<u64, StoreError> {
        let (pool, epoch) = (self.pool().0, i32::try_from(epoch).unwrap_or(i32::MAX));
        let rows = self.query(
            "select count(*) from codex_pool_records where pool = $1 and epoch < $2",
            &[(&pool.as_slice(), Type::BYTEA), (&epoch, Type::INT4)],
        )?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0).unsigned_abs()))
    }

    /// Removes the records of keys before this epoch. Who has only those keys finds nothing any more.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn remove_before(&mut self, epoch: u32) -> Result<(), StoreError> {
        let (pool, epoch) = (self.pool().0, i32::try_from(epoch).unwrap_or(i32::MAX));
        self.execute(
            "delete from codex_pool_records where pool = $1 and epoch < $2",
            &[(&pool.as_slice(), Type::BYTEA), (&epoch, Type::INT4)],
        )
        .map(drop)
    }
}
