//! The tables of `list` and `why`, on terminals of every width.

use serde_json::{Value, json};
use testkit::backend::{LoginSpec, UserSpec};
use testkit::{SOON, World, now};

use crate::{check, on_terminal};

const WIDTHS: [u16; 6] = [40, 60, 80, 108, 120, 200];
pub(crate) const HOUR: i64 = 3_600;
pub(crate) const DAY: i64 = 24 * HOUR;
/// So that no unit changes while the program starts.
const SLACK: i64 = 45;

/// What is known of an account's usage: windows as length, percent used, and time to the reset.
fn usage(windows: &[(i64, f64, i64)]) -> Value {
    let fetched = now() - 12 * 60;
    let windows = windows.iter().map(|(length, used, reset)| {
        json!({"window_seconds": length, "used_percent": used, "resets_at": now() + reset + SLACK})
    });
    let windows: Vec<Value> = windows.collect();
    json!({"usage": {"fetched_at": fetched, "source": "api", "limit_reached": false, "windows": windows}})
}

/// Writes the usage cache: an entry for each label.
pub(crate) fn know(world: &World, known: &[(&str, Value)]) {
    let ids = world.ids();
    let accounts: serde_json::Map<String, Value> =
        known.iter().map(|(label, usage)| (ids[*label].clone(), usage.clone())).collect();
    let cache = json!({"version": 1, "accounts": accounts});
    world.write_private(&world.pool_home().join("usage.json"), &cache.to_string());
}

pub(crate) fn five_and_week(five: (f64, i64), week: (f64, i64)) -> Value {
    usage(&[(18_000, five.0, five.1), (604_800, week.0, week.1)])
}

fn two() -> World {
    let world = World::logged_in(&["work", "private"]);
    world.pool(&["use", "work"]).run().ok();
    let (soon, later) = (HOUR + 5 * 60, 3 * DAY + 7 * HOUR);
    know(
        &world,
        &[
            ("work", five_and_week((30.0, soon), (48.0, later))),
            ("private", five_and_week((9.0, soon), (21.0, later))),
        ],
    );
    world
}

/// One of each state, and labels of all lengths.
fn eight() -> World {
    let world = World::logged_in(&["alice"]);
    let long = "a label of a considerable length, as some people like";
    for name in ["low", "carol", "dave", "erin", "never", "monthly"] {
        world.add(name);
    }
    world.add_as("bob", UserSpec::new("bob").plan("self_serve_business_usage_based"), &LoginSpec::default());
    world.pool(&["rename", "bob", long]).run().ok();
    world.pool(&["disable", "erin"]).run().ok();
    let file = world.pool_home().join("accounts.json");
    let mut registry = world.registry();
    for account in registry["accounts"].as_array_mut().expect("accounts") {
        if account["label"] == "dave" {
            account["auth"] = json!({"state": "reauth_required", "reason": "revoked"});
        }
    }
    world.write_private(&file, &registry.to_string());
    know(
        &world,
        &[
            ("alice", five_and_week((38.0, 2 * HOUR + 14 * 60), (52.0, DAY + 4 * HOUR))),
            ("low", five_and_week((96.0, 4 * HOUR + 40 * 60), (21.0, 3 * DAY + 7 * HOUR))),
            ("carol", five_and_week((100.0, HOUR + 5 * 60), (64.0, 5 * DAY + 2 * HOUR))),
            ("dave", five_and_week((0.0, 5 * HOUR), (12.0, 6 * DAY))),
            ("erin", five_and_week((10.0, 25 * 60), (12.0, 20 * HOUR))),
            ("monthly", usage(&[(2_592_000, 40.0, 20 * DAY)])),
            (long, five_and_week((61.0, HOUR), (20.0, 6 * DAY))),
        ],
    );
    world
}

fn pool(world: &World, args: &[&str], columns: u16) -> String {
    on_terminal(world, world.pool(args), columns)
}

#[test]
fn list_and_why_of_two_accounts_read_well_at_every_width() {
    let world = two();
    for columns in WIDTHS {
        check(&format!("list-2-accounts-{columns}"), &pool(&world, &["list"], columns));
        check(&format!("why-2-accounts-{columns}"), &pool(&world, &["why"], columns));
    }
}

#[test]
fn list_and_why_of_eight_accounts_read_well_at_every_width() {
    let world = eight();
    for columns in WIDTHS {
        check(&format!("list-8-accounts-{columns}"), &pool(&world, &["list"], columns));
        check(&format!("why-8-accounts-{columns}"), &pool(&world, &["why"], columns));
    }
}

#[test]
fn watch_has_the_tables_of_list_with_a_mark_before_the_selected_one() {
    let world = eight();
    for columns in [40, 80, 120] {
        let watch = testkit::Pty::spawn(world.pool(&["watch"]).env("TZ", "UTC"), 30, columns);
        let screen = watch.wait_for("all accounts", SOON, |s| s.contains("monthly") && s.contains("q quit"));
        let list = pool(&world, &["list"], columns - 2);
        let rows = |text: &str, from: usize| -> Vec<String> {
            let lines = text.lines().filter(|line| line.contains("hh:mm") && line.contains(" % "));
            lines.map(|line| line.chars().skip(from).collect::<String>().trim().to_owned()).collect()
        };
        let shown = crate::fixed(&world, &screen);
        assert_eq!(rows(&shown, 2).len(), 6, "{screen}");
        assert_eq!(rows(&shown, 2), rows(&list, 0), "{columns} columns:\n{screen}\n{list}");
        assert_eq!(shown.matches('▸').count(), 1, "{screen}");
    }
}

#[test]
fn forty_accounts_have_their_resets_at_every_width() {
    let world = World::new(&[]);
    let names: Vec<String> = (0..40).map(|n| format!("account{n:02}")).collect();
    let files: Vec<String> = names
        .iter()
        .map(|name| {
            world.backend().add(name);
            let file = world.root().join(format!("{name}.json"));
            world.write_private(&file, &world.backend().auth_json(name));
            file.display().to_string()
        })
        .collect();
    let args: Vec<&str> = std::iter::once("import").chain(files.iter().map(String::as_str)).collect();
    world.pool(&args).run().ok();
    let labels = world.labels();
    let known: Vec<(&str, Value)> = labels
        .iter()
        .enumerate()
        .map(|(n, label)| {
            (label.as_str(), five_and_week((1.0 + 2.4 * n as f64, HOUR), (1.0 + n as f64, 3 * DAY)))
        })
        .collect();
    know(&world, &known);
    for columns in WIDTHS {
        let mut terminal = testkit::Pty::spawn(world.pool(&["list"]).env("TZ", "UTC"), 120, columns);
        terminal.finish(SOON);
        let shown = crate::fixed(&world, &terminal.screen());
        assert!(shown.lines().all(|line| line.chars().count() <= usize::from(columns)), "{shown}");
        assert_eq!(shown.matches("· hh:mm").count(), 40, "{columns}: {shown}");
        assert_eq!(shown.matches("· Day hh:mm").count(), 40, "{columns}: {shown}");
        for name in &names {
            assert!(shown.contains(name.as_str()), "{columns}: {name} is not in {shown}");
        }
    }
}

#[test]
fn list_on_a_locked_pool_shows_what_it_can_read_and_says_so() {
    let world = two();
    let free = world.pool(&["list"]).run().ok();
    let lock = testkit::files::lock(&world.pool_home().join("pool.lock"));
    let locked = world.pool(&["list"]).run().ok();
    let json = world.pool(&["list", "--json"]).run().ok();
    drop(lock);
    let accounts = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.contains(" % ")).map(str::to_owned).collect()
    };
    assert_eq!(accounts(&free.stdout).len(), 2, "{free}");
    assert_eq!(
        accounts(&crate::fixed(&world, &locked.stdout)),
        accounts(&crate::fixed(&world, &free.stdout))
    );
    assert_eq!(locked.stderr.lines().count(), 1, "{locked}");
    assert!(locked.stderr.contains("another process has the pool locked"), "{locked}");
    let answer: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(answer["accounts"].as_array().expect("accounts").len(), 2, "{answer}");
    assert!(!free.stderr.contains("locked"), "{free}");
}

#[test]
fn pinned_account_is_next_in_a_pool_of_disabled_accounts() {
    let world = two();
    world.pool(&["use", "work"]).run().ok();
    for label in ["work", "private"] {
        world.pool(&["disable", label]).run().ok();
    }
    let list = world.pool(&["list"]).run().ok();
    assert!(list.stdout.contains("next: work (it is pinned)"), "{list}");
    assert!(!list.stdout.contains("none is picked"), "{list}");
}

#[test]
fn pool_of_disabled_accounts_says_so_in_one_line() {
    let world = two();
    world.pool(&["use", "--auto"]).run().ok();
    let line = "Every account is disabled, so none is picked; `codex-pool enable ";
    world.pool(&["disable", "work"]).run().ok();
    let one = world.pool(&["list"]).run().ok();
    assert!(!one.stdout.contains(line), "{one}");
    world.pool(&["disable", "private"]).run().ok();
    let all = world.pool(&["list"]).run().ok();
    assert_eq!(all.stdout.matches(line).count(), 1, "{all}");
    assert!(!all.stdout.contains("next:"), "{all}");
    // What it names does it.
    let word = all.stdout.split(line).nth(1).and_then(|rest| rest.split('`').next()).expect("an account");
    world.pool(&["enable", word]).run().ok();
    assert!(!world.pool(&["list"]).run().ok().stdout.contains(line));
}
