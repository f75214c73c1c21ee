//! Colours are the terminal theme's own, and are there when they are wanted.

use testkit::{Cmd, Pty, SOON, World};

fn world() -> World {
    let world = World::new(&["full", "half", "used"]);
    world.usage(&[("full", 5.0, 5.0), ("half", 80.0, 50.0), ("used", 100.0, 100.0)]);
    world
}

/// The codes of the escape sequences for looks, apart.
fn codes(text: &str) -> Vec<String> {
    let sequences = text.split("\x1b[").skip(1).filter_map(|rest| rest.split_once('m'));
    let sequences = sequences.filter(|(codes, _)| codes.chars().all(|c| c.is_ascii_digit() || c == ';'));
    let mut codes: Vec<String> =
        sequences.flat_map(|(codes, _)| codes.split(';').map(str::to_owned).collect::<Vec<_>>()).collect();
    codes.sort();
    codes.dedup();
    codes
}

fn on_terminal(cmd: Cmd) -> String {
    Pty::spawn(cmd, 40, 120).finish(SOON)
}

#[test]
fn colours_are_there_when_they_are_wanted_and_only_then() {
    let world = world();
    let list = |args: &[&str]| world.pool(&[&["list"], args].concat());
    let coloured = |text: &str| !codes(text).is_empty();
    let piped = |cmd: Cmd| cmd.run().ok().stdout;
    assert!(!coloured(&piped(list(&[]))) && coloured(&on_terminal(list(&[]))));
    assert!(coloured(&piped(list(&["--color", "always"]))));
    assert!(coloured(&piped(list(&["--color=always"]).env("NO_COLOR", "1"))), "what is typed wins");
    assert!(coloured(&piped(list(&[]).env("CLICOLOR_FORCE", "1"))));
    for none in [
        list(&["--color", "never"]),
        list(&[]).env("NO_COLOR", "1"),
        list(&[]).env("TERM", "dumb"),
        list(&["--color", "never"]).env("CLICOLOR_FORCE", "1"),
    ] {
        let shown = on_terminal(none);
        assert!(!coloured(&shown), "{shown}");
    }
    let error = world.pool(&["use", "nix", "--color", "always"]).run().expect(3).stderr;
    assert!(error.starts_with("\x1b[31merror:\x1b[0m "), "{error:?}");
}

#[test]
fn colours_are_the_eight_of_the_theme_in_list_doctor_and_watch() {
    let world = world();
    let eight = |codes: &[String]| {
        codes.iter().all(|c| {
            matches!(c.as_str(), "" | "0" | "1" | "2" | "22" | "31" | "32" | "33" | "36" | "39" | "49" | "59")
        })
    };
    for args in [&["list"][..], &["why"], &["doctor"]] {
        let codes = codes(&on_terminal(world.pool(args)));
        assert!(eight(&codes), "{args:?}: {codes:?}");
    }
    let list = codes(&on_terminal(world.pool(&["list"])));
    assert!(["31", "32", "33"].iter().all(|code| list.contains(&(*code).to_owned())), "{list:?}");
    let mut watch = Pty::spawn(world.pool(&["watch"]), 40, 120);
    watch.wait_for_text("q quit", SOON);
    watch.send("q");
    watch.wait(SOON);
    // The library names the eight by their places in the palette.
    let named = (0..8).fold(watch.raw(), |shown, n| shown.replace(&format!("38;5;{n}"), &format!("3{n}")));
    assert!(eight(&codes(&named)), "{:?}", codes(&named));
}

#[test]
fn next_and_low_are_in_json() {
    let world = world();
    let json = |verb: &str| world.pool(&[verb, "--json"]).run().ok().json();
    world.usage(&[("full", 96.0, 5.0), ("half", 80.0, 50.0), ("used", 100.0, 100.0)]);
    for verb in ["list", "why", "refresh"] {
        let said = json(verb);
        let account = |label: &str| {
            let accounts = said["accounts"].as_array().expect("accounts");
            accounts.iter().find(|account| account["label"] == label).expect("it").clone()
        };
        assert_eq!(said["next"], account("half")["id"], "{said}");
        assert_eq!((&account("full")["state"], &account("full")["low"]), (&"ready".into(), &true.into()));
        assert_eq!(
            (&account("used")["state"], &account("used")["low"]),
            (&"exhausted".into(), &false.into())
        );
    }
    world.usage(&[("full", 5.0, 5.0)]);
    assert_eq!(json("list")["accounts"][0]["low"], false);
    let none = world.pool(&["list", "--json"]).env("CODEX_ACCESS_TOKEN", "x").run().ok().json();
    assert_eq!(none["next"], serde_json::Value::Null, "the environment decides");
    let empty = World::new(&[]);
    assert_eq!(empty.pool(&["why", "--json"]).run().ok().json()["next"], serde_json::Value::Null);
}
