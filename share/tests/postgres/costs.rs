//! What the rows of an account take in a real database, after its tokens were renewed again and again.

use super::server::start;
use super::{login, share};

#[test]
fn rows_take_no_more_room_in_the_database_than_the_page_says() {
    const ACCOUNTS: usize = 12;
    const RENEWALS: i64 = 6;
    let Some(server) = start() else { return };
    let mut a = share(&server.url(), "a");
    for renewal in 1..=RENEWALS {
        for n in 0..ACCOUNTS {
            a.push(&login(&format!("account{n:03}"), renewal)).unwrap();
        }
        server.sql("vacuum codex_pool_records");
    }
    let size: usize =
        server.sql("select pg_total_relation_size('codex_pool_records')").trim().parse().expect("a number");
    let page = include_str!("../../../docs/share.md");
    assert!(page.contains("at most 60 KB an account"));
    assert!(size / ACCOUNTS <= 60_000, "{} bytes an account", size / ACCOUNTS);
}
