//! A pool on several machines, with the built programs and a real PostgreSQL. Tests are left out where it is not
//! installed.

mod accounts;
mod agree;
mod crash;
mod fleet;
mod join;
mod mistakes;
mod rotate;
#[path = "../messages/schema.rs"]
#[expect(dead_code, reason = "the suite `messages` uses the rest")]
mod schema;
mod secrecy;
mod world;

fn read(file: &str) -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}
