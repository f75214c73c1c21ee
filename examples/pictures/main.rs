//! Draws the pictures that show moments, with times, charts and ages: `cargo run --example pictures`. Those that are the
//! same at every moment are drawn, and compared, by `tests/picture`. `-- sh` opens a shell in the same world instead, to
//! look at the live view there.

#![expect(clippy::print_stdout, reason = "it says what it draws")]

mod world;

use std::fs;
use std::path::Path;
use std::time::Duration;

use testkit::{Pty, SOON, World, picture};

fn main() {
    let (world, _sessions) = world::make();
    if let Some(program) = std::env::args().nth(1) {
        let mut command = world.cmd(program).args(std::env::args().skip(2)).into_inner();
        command.env("TERM", std::env::var_os("TERM").unwrap_or_default());
        let status = command.status().expect("it starts");
        std::process::exit(status.code().unwrap_or(1));
    }
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let keep = |name: &str, drawn: String| {
        println!("docs/{name}: {} bytes", drawn.len());
        fs::write(docs.join(name), drawn).expect("write the picture");
    };
    keep("watch.svg", watch(&world));
    keep("status.svg", status(&world));
    world.pool(&["history", "--svg", "history.svg", "alice"]).run().ok();
    keep("history.svg", fs::read_to_string(world.work().join("history.svg")).expect("a picture"));
}

/// Returns tmux with the recipe of docs/status.md.
fn status(world: &World) -> String {
    let settings = "set -g status-right-length 60\n\
         set -g status-right '#(codex-pool status --markup tmux) | %H:%M'\n\
         set -g status-style bg=default,fg=cyan\nset -g status-interval 1\n";
    fs::write(world.work().join("tmux.conf"), settings).expect("settings");
    let (rows, columns) = (8, 100);
    let tmux = |args: &[&str]| world.cmd("tmux").args(["-S", "t", "-f", "tmux.conf"]).args(args);
    let shell = "PS1='$ ' exec sh";
    let mut terminal = Pty::spawn(tmux(&["new-session", "-n", "shop", shell]), rows, columns);
    terminal.wait_for_text("alice · 5h", SOON);
    terminal.send("codex-pool why --last\r");
    std::thread::sleep(Duration::from_secs(3));
    let drawn = picture::screen("tmux", &terminal.raw(), rows, columns);
    tmux(&["kill-server"]).run().ok();
    drawn
}

/// Returns the live view.
fn watch(world: &World) -> String {
    let (rows, columns) = (38, 120);
    let mut view = Pty::spawn(world.pool(&["watch", "--interval", "86400"]), rows, columns);
    view.wait_for_text("resets ", SOON);
    view.send("j");
    std::thread::sleep(Duration::from_secs(1));
    picture::screen("codex-pool watch", &view.raw(), rows, columns)
}
