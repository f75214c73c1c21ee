//! The picture and the recording in README are what the programs print: this draws them again and compares. After a
//! wanted change: `UPDATE_PICTURE=1 cargo test --test picture`.

#[path = "../../examples/demo/picking.rs"]
mod picking;
mod recording;
mod times;

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use testkit::backend::{Usage, UserSpec, Window};
use testkit::{Pty, World, now, picture};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// So that no unit changes while the program starts.
const SLACK: i64 = 45;
/// How old the data is.
const AGE: i64 = 12 * 60;
const COLUMNS: u16 = 108;

#[test]
fn picture_of_list_is_the_programs_own_output() {
    let world = world();
    date(&world);
    let session = world.hold(world.exec_as("alice"));
    let who = format!("codex exec (pid {})", session.pid());
    let shown = list(&world, COLUMNS).raw().replace(&who, "codex exec (pid 4711)");
    let drawn = picture::svg("codex-pool list", &times::fixed(&shown), COLUMNS);
    drop(session);
    assert!(
        is_kept("docs/list.svg", &drawn),
        "it is not what `list` prints now; see the first lines of this test"
    );
}

/// Returns whether a picture is the one in the repository. It is, after it was written there on request.
fn is_kept(file: &str, drawn: &str) -> bool {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_PICTURE").is_some() {
        fs::write(&file, drawn).expect("write the picture");
    }
    fs::read_to_string(&file).unwrap_or_default() == drawn
}

#[test]
fn table_fits_a_terminal_of_any_width() {
    let world = world();
    for columns in [44, 60, 80, 108, 160] {
        let screen = list(&world, columns).screen();
        for name in ["alice", "work", "carol", "dave"] {
            assert!(
                screen.lines().any(|line| line.contains(&format!(" {name} "))),
                "{columns} columns:\n{screen}"
            );
        }
        assert_eq!(screen.contains("<alice@example.com>"), columns == 160, "{screen}");
    }
}

/// Returns `codex-pool list` in a terminal, when it has ended.
fn list(world: &World, columns: u16) -> Pty {
    let mut terminal = Pty::spawn(world.pool(&["list"]), 24, columns);
    terminal.finish(Duration::from_secs(30));
    terminal
}

/// Four accounts: one live, one in use, one at its limit, one that needs a login.
fn world() -> World {
    let world = World::new(&[]);
    let accounts = [
        ("alice", "plus", (38.0, 2 * HOUR + 14 * 60), (52.0, DAY + 4 * HOUR)),
        ("work", "team", (9.0, 4 * HOUR + 40 * 60), (21.0, 3 * DAY + 7 * HOUR)),
        ("carol", "plus", (100.0, HOUR + 5 * 60), (64.0, 5 * DAY + 2 * HOUR)),
        ("dave", "plus", (0.0, 5 * HOUR), (12.0, 6 * DAY)),
    ];
    for (name, plan, five_hours, week) in accounts {
        world.backend().add_user(name, UserSpec::new(name).plan(plan));
        let window = |window: Window, resets_in: i64| Some(window.resets_in(resets_in));
        world.backend().set_usage(
            name,
            Usage::windows(
                window(Window::five_hours(five_hours.0), five_hours.1),
                window(Window::week(week.0), week.1),
            ),
        );
        let document = world.backend().auth_json(name);
        if name == "alice" {
            world.write_live(&document);
            world.pool(&["list"]).run().ok();
        } else {
            world.pool(&["import", "-", "--label", name]).stdin(document).run().ok();
        }
    }
    world.pool(&["refresh"]).run().ok();
    edit(&world.pool_home().join("accounts.json"), |registry| {
        let dave =
            registry["accounts"].as_array_mut().expect("accounts").iter_mut().find(|a| a["label"] == "dave");
        dave.expect("dave")["auth"] = serde_json::json!({"state": "reauth_required", "reason": "revoked"});
    });
    world
}

/// Moves all times to where they were meant to be, now that everything is ready.
fn date(world: &World) {
    let now = now();
    world.edit_usage(|entry| {
        let usage = &mut entry["usage"];
        let late = now - usage["fetched_at"].as_i64().expect("a time");
        usage["fetched_at"] = (now - AGE).into();
        for window in usage["windows"].as_array_mut().expect("windows") {
            let at = window["resets_at"].as_i64().expect("a time");
            window["resets_at"] = (at + late + SLACK).into();
        }
    });
}

fn edit(file: &Path, edit: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON");
    edit(&mut json);
    fs::write(file, json.to_string()).expect("write it");
}
