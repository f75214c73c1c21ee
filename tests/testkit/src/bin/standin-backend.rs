//! The stand-in service as a program, for scripts: prints one line of JSON with its port and the
//! `auth.json` of a login per user named on the command line, and runs until its stdin closes.

use std::io::{self, Read as _, Write as _};

use serde_json::{Map, Value, json};
use testkit::backend::Backend;

fn main() -> io::Result<()> {
    let backend = Backend::start();
    let mut logins = Map::new();
    for name in std::env::args().skip(1) {
        backend.add(&name);
        let login: Value = serde_json::from_str(&backend.auth_json(&name))?;
        logins.insert(name, login);
    }
    let hello = json!({"port": backend.port(), "url": backend.url(), "auth": logins});
    writeln!(io::stdout(), "{hello}")?;
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&backend.report())?)
}
