//! The protocol in a real PostgreSQL. Tests are left out where it is not installed.

mod costs;
mod secrecy;
mod server;
mod tls;
mod workers;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use codex_pool_share::Seen;
use codex_pool_share::address::{Address, BadAddress};
use codex_pool_share::code::{Code, Keys};
use codex_pool_share::keys::{MemberKeys, PoolId, PoolKey};
use codex_pool_share::login::{Age, Login};
use codex_pool_share::postgres::Postgres;
use codex_pool_share::protocol::{Begun, LEASE, Pushed, Share};
use codex_pool_share::record::Kind;
use codex_pool_share::store::{Hold, Store, StoreError};

use server::{connect, start, tables};
use testkit::postgres::PASSWORD;

const POOL: [u8; 16] = [1; 16];
const NOW: Duration = Duration::from_secs(1000);

fn keys() -> MemberKeys {
    MemberKeys::new(PoolId(POOL), 1, PoolKey([2; 32]))
}

/// The `n`th login of an account.
fn login(account: &str, n: i64) -> Login {
    Login {
        account: account.to_owned(),
        label: "label-of-work".to_owned(),
        age: Age { issued_at: Some(n), expires_at: Some(n + 10), renewed_at: Some(n) },
        token: n.to_string(),
        document: format!("refresh-token-{n} access-token-{n} ann@example.com {account}").into(),
        access: Some(format!("access-token-{n} ann@example.com {account}").into()),
    }
}

fn share(url: &str, machine: &str) -> Share<Postgres> {
    let store = tables(url, POOL).expect("tables");
    Share::new(keys(), machine, store, Seen::default())
}

#[test]
fn rows_are_replaced_only_as_they_were_read_and_holds_end_by_its_clock() {
    let Some(server) = start() else { return };
    let mut store = tables(&server.url(), POOL).expect("tables");
    store.create_tables().expect("again");
    let (keys, account) = (keys(), "aaaaaaaaaa");
    let write = |revision| keys.write(Kind::Lease, account, revision, b"text");
    let (first, second, third) = (write(1), write(2), write(3));
    assert_eq!(store.read(first.row), Ok(None));
    assert_eq!(store.write(&first, 0, Hold::Take(LEASE)), Ok(true));
    assert_eq!(store.write(&first, 0, Hold::Take(LEASE)), Ok(false), "it is there");
    let row = store.read(first.row).expect("an answer").expect("a row");
    assert_eq!(row.record, first);
    assert!(row.held > LEASE / 2 && row.held <= LEASE, "{:?}", row.held);
    assert_eq!(store.write(&second, 1, Hold::Take(LEASE)), Ok(false), "it is held");
    assert_eq!(store.write(&third, 2, Hold::Keep), Ok(false), "another revision");
    assert_eq!(store.write(&second, 1, Hold::Keep), Ok(true));
    assert!(store.read(first.row).expect("an answer").expect("a row").held > Duration::ZERO);
    server.sql("update codex_pool_records set held_until = now()");
    assert_eq!(store.write(&third, 2, Hold::Keep), Ok(false), "it has ended");
    assert_eq!(store.write(&third, 2, Hold::Take(LEASE)), Ok(true));
    assert_eq!(store.write(&write(4), 3, Hold::Drop), Ok(true));
    let rows = store.read_all().expect("an answer");
    assert_eq!((rows.len(), rows[0].record.revision, rows[0].held), (1, 4, Duration::ZERO));
    assert_eq!(store.list().expect("an answer"), [rows[0].record.listed()]);
    for revision in [5, 6] {
        assert_eq!(
            store.write(&write(revision), revision - 1, Hold::Set(LEASE)),
            Ok(true),
            "even if it is held"
        );
    }
    assert!(store.read(first.row).expect("an answer").expect("a row").held > LEASE / 2);
    let mut other = tables(&server.url(), [9; 16]).expect("tables");
    assert_eq!(other.read_all(), Ok(Vec::new()), "another pool in the same database");
}

#[test]
fn two_machines_renew_one_after_the_other() {
    let Some(server) = start() else { return };
    let (mut a, mut b) = (share(&server.url(), "a"), share(&server.url(), "b"));
    let login = |n| login("aaaaaaaaaa", n);
    assert_eq!(a.push(&login(1)).unwrap(), Pushed::Written);
    let Begun::Leased(mut ticket) = a.begin(&login(1), None, NOW).unwrap() else { panic!("free") };
    assert!(matches!(b.begin(&login(1), None, NOW).unwrap(), Begun::Busy(name, _) if name == "a"));
    assert!(a.mark(&mut ticket).unwrap());
    server.sql("update codex_pool_records set held_until = now() where kind = 'lease'");
    assert!(matches!(b.begin(&login(1), None, NOW).unwrap(), Begun::SentBy(name) if name == "a"));
    assert_eq!(a.finish(ticket, &login(2)).unwrap(), Pushed::Written);
    assert!(matches!(b.begin(&login(1), None, NOW).unwrap(), Begun::Newer(newer) if *newer == login(2)));
    assert!(b.pull().unwrap().leases.is_empty());
}

#[test]
fn code_is_used_once_and_ends() {
    let Some(server) = start() else { return };
    let mut store = tables(&server.url(), POOL).expect("tables");
    let member = Keys::Member(Box::new(keys()));
    let (code, bundle) = Code::new(&server.url(), &member);
    store.add_code(&code, &bundle).unwrap();
    let parsed = Code::parse(&code.to_text()).unwrap();
    let taken = store.take_code(&parsed).unwrap().expect("the bundle");
    assert_eq!(parsed.open(&taken).expect("keys").shared().pool, PoolId(POOL));
    assert_eq!(store.take_code(&parsed).unwrap(), None, "once");
    let (late, bundle) = Code::new(&server.url(), &member);
    store.add_code(&late, &bundle).unwrap();
    server.sql("update codex_pool_codes set ends_at = now()");
    assert_eq!(store.take_code(&late).unwrap(), None, "in time");
    store.add_code(&code, &bundle).unwrap();
    assert_eq!(server.sql("select count(*) from codex_pool_codes").trim(), "1", "what has ended is removed");
}

#[test]
fn address_that_cannot_be_used_says_why_and_shows_no_password() {
    let error = |url: &str| Address::parse(url).expect_err(url);
    assert_eq!(error("my database"), BadAddress::NoUrl);
    assert_eq!(error("mysql://localhost/pool"), BadAddress::NoUrl);
    assert_eq!(error("postgres://localhost"), BadAddress::NoDatabase);
    let plain = error("postgres://u:hunter2@db.example/pool?sslmode=disable");
    assert_eq!(plain, BadAddress::Plain("db.example".to_owned()));
    for url in [
        "postgres://u:hunter2@db.example/pool?sslmode=maybe",
        "postgres://u:hunter2@db.example:port/pool",
        "postgres://u:hunter2@db.example/pool?colour=red",
    ] {
        let text = error(url).to_string();
        assert!(text.starts_with("the address cannot be used: ") && !text.contains("hunter2"), "{text}");
    }
    for url in [
        "postgres://localhost/pool",
        "postgres://[::1]/pool?sslmode=disable",
        "postgresql://u:hunter2@127.0.0.1:1/pool",
        "postgres://%2Frun%2Fpostgresql/pool",
        "postgres://u:hunter2@db.example/pool?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem&connect_timeout=3",
    ] {
        let address = Address::parse(url).unwrap_or_else(|e| panic!("{url}: {e}"));
        let shown = format!("{address} {address:?}");
        assert!(shown.contains("/pool") && !shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn database_that_refuses_says_what_to_change() {
    let Some(server) = start() else { return };
    let open = |url: &str| tables(url, POOL);
    let refused = |url: &str, why: &str| {
        let error = open(url).expect_err(why);
        assert!(matches!(&error, StoreError::Refused(_, text) if text.contains(why)), "{why}: {error}");
        assert!(!error.to_string().contains(PASSWORD), "{error}");
    };
    refused(&server.url().replace(PASSWORD, "wrong"), "user or password is wrong");
    refused(
        &server.url().replace("/postgres", "/nowhere").replace("nowhere://", "postgres://"),
        "there is no such database",
    );
    open(&server.url()).expect("tables");
    server.sql(
        "create role reader login password 'reader'; grant select on all tables in schema public to reader",
    );
    let reader = server.url().replace(&format!("owner:{}", PASSWORD), "reader:reader");
    let mut reading = open(&reader).expect("it may read");
    assert_eq!(reading.read_all(), Ok(Vec::new()));
    let record = keys().write(Kind::Full, "aaaaaaaaaa", 1, b"text");
    let error = reading.write(&record, 0, Hold::Without).expect_err("it may not write");
    assert!(matches!(&error, StoreError::Refused(_, text) if text.contains("may not do that")), "{error}");
    server.sql("alter role reader set default_transaction_read_only = on; grant insert on codex_pool_records to reader");
    let error = open(&reader).expect("it may read").write(&record, 0, Hold::Without).expect_err("a standby");
    assert!(matches!(&error, StoreError::Refused(_, text) if text.contains("can only be read")), "{error}");
    server.sql("insert into codex_pool_schema values (2)");
    assert_eq!(open(&server.url()).expect_err("newer"), StoreError::Newer);
}

#[test]
fn database_that_was_never_shared_is_not_taken_for_an_empty_pool() {
    let Some(server) = start() else { return };
    server.sql("drop table codex_pool_schema, codex_pool_records");
    let mut store = connect(&server.url(), POOL);
    for error in [store.check_schema().expect_err("none"), store.read_all().expect_err("none")] {
        assert!(
            matches!(&error, StoreError::Refused(_, text) if text.contains("no pool is shared")),
            "{error}"
        );
    }
}

#[test]
fn database_that_is_away_or_silent_is_given_up_in_time() {
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let url = |port: u16| format!("postgres://u:p@127.0.0.1:{port}/pool");
    let open = |url: &str, limit| {
        let store = Postgres::new(Address::parse(url).expect("an address"), PoolId(POOL)).expect("a store");
        store.with_limit(Duration::from_millis(limit)).read_all().expect_err("away")
    };
    assert!(matches!(open(&url(closed), 10_000), StoreError::Down(_)));
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let begun = Instant::now();
    let error = open(&url(silent.local_addr().expect("a port").port()), 200);
    assert!(matches!(&error, StoreError::Down(why) if why.contains("does not answer")), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn write_that_is_not_answered_in_time_is_not_known_to_have_failed() {
    let Some(server) = start() else { return };
    let mut store = tables(&server.url(), POOL).expect("tables").with_limit(Duration::from_secs(2));
    let record = keys().write(Kind::Full, "aaaaaaaaaa", 1, b"text");
    assert_eq!(store.write(&record, 0, Hold::Without), Ok(true));
    // Another transaction has the row.
    let lock = "begin; select * from codex_pool_records for update; select pg_sleep(20)";
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| server.sql(lock));
        while server.sql("select count(*) from pg_stat_activity where query like '%pg_sleep(20)' and state = 'active' and pid <> pg_backend_pid()").trim() == "0" {
            std::thread::sleep(Duration::from_millis(20));
        }
        let next = keys().write(Kind::Full, "aaaaaaaaaa", 2, b"text");
        let error = store.write(&next, 1, Hold::Without).expect_err("locked");
        assert!(matches!(error, StoreError::Unknown(_)), "{error}");
        server.sql("select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(20)' and pid <> pg_backend_pid()");
        let _ = holder.join();
    });
    let until = Instant::now() + Duration::from_secs(60);
    let again = std::iter::repeat_with(|| store.read(record.row));
    let read = again.take_while(|_| Instant::now() < until).find_map(Result::ok).expect("connected again");
    assert!(read.is_some());
}

#[test]
fn database_that_dies_takes_nothing_with_it() {
    let Some(mut server) = start() else { return };
    let mut a = share(&server.url(), "a");
    a.push(&login("aaaaaaaaaa", 1)).unwrap();
    server.kill();
    let error = a.push(&login("aaaaaaaaaa", 2)).expect_err("gone");
    assert!(error.to_string().starts_with("the database "), "{error}");
    assert!(matches!(a.pull(), Err(codex_pool_share::protocol::ShareError::Store(StoreError::Down(_)))));
}
