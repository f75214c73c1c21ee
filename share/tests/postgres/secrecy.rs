//! What the database, its files, its dump, its log and the network see of a pool: no token, no email, no label, no
//! account, no key.

use codex_pool_share::code::{Code, Keys};
use codex_pool_share::protocol::Begun;

use super::server::start;
use super::{NOW, keys, login, share};

/// What nobody but the machines may read.
const SECRETS: [&str; 7] = [
    "refresh-token",
    "access-token",
    "ann@example.com",
    "label-of-work",
    "qqqqqqqqqq",
    "name-of-machine",
    "\"held\"",
];

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(bytes, text).is_some()
}

#[test]
fn nothing_outside_the_machines_sees_a_secret() {
    let Some(server) = start() else { return };
    let (port, heard) = server.tap();
    let url = server.url_at(port);
    let mut a = share(&url, "name-of-machine");
    let login = |n| login("qqqqqqqqqq", n);
    a.push(&login(1)).unwrap();
    let Begun::Leased(mut ticket) = a.begin(&login(1), None, NOW).unwrap() else { panic!("free") };
    assert!(a.mark(&mut ticket).unwrap());
    a.finish(ticket, &login(2)).unwrap();
    a.carry_removal(&login(1).account, login(1).age).unwrap();
    let keys = keys();
    let (code, bundle) = Code::new(&url, &Keys::Member(Box::new(keys.clone())));
    a.store.add_code(&code, &bundle).unwrap();
    assert_eq!(share(&url, "another").pull().unwrap().logins, [login(2)], "the machines do");

    let seen = server.all_it_has(&heard);
    let line = code.to_text();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes();
    let mut secrets: Vec<Vec<u8>> = SECRETS.iter().map(|secret| secret.as_bytes().to_vec()).collect();
    secrets.extend(SECRETS.iter().map(|secret| hex(secret.as_bytes())));
    secrets.extend([keys.pool_key().0.to_vec(), hex(&keys.pool_key().0), line.as_bytes()[20..60].to_vec()]);
    for (place, bytes) in &seen {
        for secret in &secrets {
            assert!(!contains(bytes, secret), "{place} has {}", String::from_utf8_lossy(secret));
        }
    }
    // It was looked in the right places.
    let row = keys.runner().row(codex_pool_share::record::Kind::Full, "qqqqqqqqqq").0;
    let finds = |row: &[u8]| seen.iter().filter(|(_, bytes)| contains(bytes, row)).count();
    assert!(finds(&row) >= 2 && finds(&hex(&row)) >= 2, "{} {}", finds(&row), finds(&hex(&row)));
}
