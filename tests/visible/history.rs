//! `history`: readings that changed, as a chart, a picture, JSON and CSV; and the forecast that `list` shows.

use std::fs;

use serde_json::{Value, json};
use testkit::backend::{Usage, Window};
use testkit::{World, now};

use super::{pool_of, use_up};

fn history(world: &World, args: &[&str]) -> Value {
    let all: Vec<&str> = ["history", "--json"].into_iter().chain(args.iter().copied()).collect();
    world.pool(&all).run().ok().json()
}

/// The percents of an account's 5h window.
fn five_hours(history: &Value, label: &str) -> Vec<f64> {
    let accounts = history["accounts"].as_array().expect("accounts");
    let account = accounts.iter().find(|account| account["label"] == label).expect("the account");
    let windows = account["windows"].as_array().expect("windows");
    let window = windows.iter().find(|window| window["name"] == "5h");
    let readings =
        window.map_or(&Value::Null, |window| &window["readings"]).as_array().cloned().unwrap_or_default();
    readings.iter().map(|reading| reading["used_percent"].as_f64().expect("a percent")).collect()
}

/// Writes readings of the last hours into the history of an account: one every 10 minutes, up to what is used now.
fn past(world: &World, label: &str, hours: i64, per_reading: f64, used: f64) {
    let (id, now) = (world.id(label), now());
    let folder = world.pool_home().join("history");
    let count = hours * 6;
    for n in 0..count {
        let at = now - (count - n) * 600;
        let month: String =
            jiff::Timestamp::from_second(at).expect("a time").to_string().chars().take(7).collect();
        let percent = (used - (count - n) as f64 * per_reading).max(0.0);
        let line = json!({"t": at, "a": id, "w": [[18_000, percent, now + 9_000 - at], [604_800, percent / 6.0, 500_000]]});
        let path = folder.join(format!("{month}.jsonl"));
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(&path, format!("{before}{line}\n")).expect("a history");
    }
}

#[test]
fn readings_are_kept_when_they_change_and_only_then() {
    let world = pool_of(&["alice", "bob"]);
    for used in [10.0, 10.0, 25.0, 25.0, 40.0] {
        use_up(&world, "alice", used, 5.0);
    }
    use_up(&world, "bob", 3.0, 4.0);
    let all = history(&world, &[]);
    assert_eq!(all["schema"], 1);
    assert_eq!(five_hours(&all, "alice"), [10.0, 25.0, 40.0]);
    assert_eq!(five_hours(&all, "bob"), [3.0]);
    assert_eq!(history(&world, &["bob"])["accounts"].as_array().map(Vec::len), Some(1));
    world.pool(&["history", "stranger"]).run().expect(3);
    let csv = world.pool(&["history", "--csv", "alice"]).run().ok().stdout;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!((lines[0], lines.len()), ("at,account,window,used_percent,resets_at", 7), "{csv}");
    assert!(lines[1].contains(",alice,5h,10,"), "{csv}");
}

#[test]
fn history_of_an_empty_pool_says_how_to_begin() {
    let world = World::new(&[]);
    let history = world.pool(&["history"]).run().ok();
    assert_eq!(history.stdout, world.pool(&["list"]).run().ok().stdout);
    assert!(history.stdout.contains("`codex-pool add`"), "{history}");
}

#[test]
fn damaged_history_costs_its_damaged_lines_alone() {
    let world = pool_of(&["alice"]);
    use_up(&world, "alice", 10.0, 5.0);
    let folder = world.pool_home().join("history");
    let file = fs::read_dir(&folder).expect("a history").next().expect("a file").expect("a file").path();
    let mut bytes = fs::read(&file).expect("readings");
    bytes.extend(b"\xff\x00{{\n\"x\"\n{\"t\": 1");
    fs::write(&file, bytes).expect("damage");
    use_up(&world, "alice", 20.0, 5.0);
    assert_eq!(five_hours(&history(&world, &[]), "alice"), [10.0, 20.0]);
}

#[test]
fn charts_fit_and_the_picture_shows_both_windows() {
    let world = pool_of(&["alice"]);
    assert!(world.pool(&["history"]).run().ok().stdout.contains("no readings yet"));
    past(&world, "alice", 30, 0.5, 90.0);
    use_up(&world, "alice", 90.0, 20.0);
    for columns in [40, 80, 200] {
        let mut terminal = testkit::Pty::spawn(world.pool(&["history", "--days", "2"]), 40, columns);
        let screen = terminal.finish(testkit::SOON);
        assert!(screen.contains("alice") && screen.contains("100 %"), "{columns}\n{screen}");
        assert!(screen.chars().any(|c| ('⠁'..='⣿').contains(&c)), "{columns}\n{screen}");
    }
    let plain = world.pool(&["history", "--ascii"]).run().ok().stdout;
    assert!(plain.is_ascii() && plain.contains('*'), "{plain}");
    let picture = world.work().join("limits.svg");
    world.pool(&["history", "--svg", "limits.svg"]).run().ok();
    let svg = fs::read_to_string(picture).expect("a picture");
    assert!(svg.contains(">alice<") && svg.matches("<path").count() == 2, "{svg}");
}

#[test]
fn list_says_when_the_limit_comes_and_nothing_where_it_does_not() {
    let world = pool_of(&["alice", "bob"]);
    past(&world, "alice", 2, 5.0, 70.0);
    for name in ["alice", "bob"] {
        let five_hours = Window::five_hours(70.0).resets_in(9_000);
        world.backend().set_usage(name, Usage::windows(Some(five_hours), Some(Window::week(10.0))));
    }
    world.pool(&["refresh"]).run().ok();
    let list = world.pool(&["list"]).run().ok().stdout;
    assert!(list.contains("alice: limit in about ") && list.contains(" of its 5h"), "{list}");
    assert!(!list.contains("bob: "), "{list}");
    let alice = world.account("alice");
    let minutes = (alice["forecast"]["limit_at"].as_i64().expect("a time") - now()) / 60;
    assert!((40..130).contains(&minutes), "30 % at about 30 % an hour: {minutes}");
    assert!(world.account("bob")["forecast"].is_null());
    let why = world.pool(&["why"]).run().ok().stdout;
    assert!(why.contains("alice: limit in about "), "{why}");
}

#[test]
fn forecast_is_the_same_whatever_span_is_shown() {
    let world = pool_of(&["alice"]);
    past(&world, "alice", 60, 0.1, 70.0);
    let short = Window::five_hours(70.0).resets_in(9_000);
    world
        .backend()
        .set_usage("alice", Usage::windows(Some(short), Some(Window::week(90.0).resets_in(400_000))));
    world.pool(&["refresh"]).run().ok();
    let of = |answer: &Value| {
        let account = &answer["accounts"][0];
        (account["forecast"]["window"].clone(), account["windows"][1]["pace_per_hour"].clone())
    };
    let (day, month) = (history(&world, &["--days", "1"]), history(&world, &["--days", "30"]));
    assert!(of(&day).1.is_number(), "{day}");
    assert_eq!(of(&day), of(&month));
    let count = |answer: &Value| five_hours(answer, "alice").len();
    assert!(
        (130..160).contains(&count(&day)) && count(&month) > 350,
        "{} and {}",
        count(&day),
        count(&month)
    );
    let lines =
        |days: &str| world.pool(&["history", "--csv", "--days", days]).run().ok().stdout.lines().count();
    assert!(lines("1") < lines("30"));
    let picture = world.pool(&["history", "--svg", "-"]).run().ok().stdout;
    assert!(picture.starts_with("<svg ") && picture.contains(">alice<"), "{picture}");
}

#[test]
fn pool_lasts_longer_with_an_account_of_more_weight() {
    let world = pool_of(&["alice", "bob"]);
    past(&world, "alice", 2, 5.0, 70.0);
    for name in ["alice", "bob"] {
        world.backend().set_usage(name, Usage::windows(None, Some(Window::week(80.0).resets_in(500_000))));
    }
    world.pool(&["refresh"]).run().ok();
    let hours = || {
        let ends_at = world.pool(&["list", "--json"]).run().ok().json()["pool"]["ends_at"].as_i64();
        ends_at.map(|at| (at - now()) / 3_600)
    };
    let plus = hours().expect("two accounts of a Plus plan end");
    world.pool(&["set", "bob", "--weight", "5"]).run().ok();
    let more = hours();
    assert!(more.is_none_or(|more| more >= 2 * plus), "{plus} h, then {more:?} h");
}
