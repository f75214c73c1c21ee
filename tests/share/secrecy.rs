//! What the database, its files, its dump, its log and the network see of a pool: no token, no email, no label, no
//! account, no folder, no machine, no key.

use std::fs;

use testkit::backend::{LoginSpec, UserSpec};
use testkit::postgres::Server;
use testkit::{Sandbox, World};

use crate::world::{code, init, join};

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(bytes, text).is_some()
}

/// The value of a name in a machine's file of keys.
fn in_keys(machine: &Sandbox, name: &str) -> String {
    let keys = fs::read_to_string(machine.pool_home().join("share.toml")).expect("the keys");
    let table: toml::Table = keys.parse().expect("TOML");
    table[name].as_str().expect("a text").to_owned()
}

#[test]
fn secrets_are_seen_by_the_machines_alone() {
    let Some(server) = Server::start() else { return };
    let (port, heard) = server.tap();
    let laptop = World::new(&[]);
    laptop.add_as("label-of-work", UserSpec::new("ann-of-work"), &LoginSpec::default());
    laptop.pool(&["set", "label-of-work", "--folder"]).arg(laptop.work()).run().ok();
    init(&laptop, &server.url_at(port), "name-of-laptop").ok();
    let desktop = laptop.another();
    let used = code(&laptop, "--member");
    join(&desktop, &used, "name-of-desktop").ok();
    let runner = laptop.another();
    join(&runner, &code(&laptop, "--runner"), "runner").ok();
    let mut secrets = vec![in_keys(&laptop, "key"), in_keys(&runner, "key"), used[20..80].to_owned()];
    runner.exec_as("label-of-work").run().ok();
    laptop.pool(&["refresh"]).run().ok();
    let mark = laptop.id("label-of-work");
    laptop.pool(&["share", "rotate", "--yes"]).run().ok();
    secrets.push(in_keys(&laptop, "key"));
    let url = in_keys(&runner, "url");
    let password = url.split([':', '@']).nth(2).expect("a password").to_owned();
    assert_eq!(password.len(), 32, "it is the password");
    secrets.push(password);
    desktop.pool(&["share", "leave", "--yes", "--offline"]).run().ok();
    laptop.pool(&["share", "logout", "label-of-work", "--yes"]).run().ok();

    let seen = server.all_it_has(&heard);
    secrets.extend(laptop.backend().secrets());
    secrets.extend(
        ["label-of-work", "ann-of-work", "name-of-laptop", "name-of-desktop", "runner-1", "\"held\"", &mark]
            .map(str::to_owned),
    );
    let work = laptop.work();
    secrets.push(work.to_str().expect("UTF-8").to_owned());
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (place, bytes) in &seen {
        for secret in secrets.iter().filter(|secret| secret.len() > 5) {
            assert!(!contains(bytes, secret.as_bytes()), "{place} has {secret}");
            assert!(!contains(bytes, hex(secret).as_bytes()), "{place} has {secret}");
        }
    }
    // It was looked in the right places.
    for (place, bytes) in &seen[..3] {
        assert!(contains(bytes, b"codex_pool_records"), "{place}");
    }
    assert!(secrets.len() > 12 && contains(&seen[1].1, b"SCRAM-SHA-256$"));
}
