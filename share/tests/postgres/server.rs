//! Connections to a PostgreSQL of the test's own.

use codex_pool_share::address::Address;
use codex_pool_share::keys::PoolId;
use codex_pool_share::postgres::Postgres;
use codex_pool_share::store::StoreError;
use testkit::postgres::Server;

/// Returns a connection that is not made yet.
pub(crate) fn connect(url: &str, pool: [u8; 16]) -> Postgres {
    Postgres::new(Address::parse(url).expect("an address"), PoolId(pool)).expect("a connection")
}

/// Makes the tables.
pub(crate) fn tables(url: &str, pool: [u8; 16]) -> Result<Postgres, StoreError> {
    let mut store = connect(url, pool);
    store.create_tables()?;
    Ok(store)
}

/// Starts a server with the tables; `None` where there is none to start.
pub(crate) fn start() -> Option<Server> {
    let server = Server::start()?;
    tables(&server.url(), [0; 16]).expect("tables");
    Some(server)
}
