//! What users read, word for word. Each text is a snapshot in `tests/messages/snapshots/`, so that a change of words is
//! seen in review. After a wanted change: `INSTA_UPDATE=always cargo test --test messages`.

mod colours;
mod errors;
mod json;
mod references;
mod said;
mod schema;
mod tables;

use std::time::Duration;

use testkit::{Cmd, Output, Pty, World};

/// Reads a file of the repository.
fn read(file: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// Compares a text with its snapshot of that name.
#[track_caller]
fn check(name: &str, text: &str) {
    let mut settings = insta::Settings::new();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Compares what commands say with a snapshot: each with the arguments that were typed, its status, and its output.
#[track_caller]
fn check_said(world: &World, name: &str, said: &[(impl AsRef<str>, Output)]) {
    let text: Vec<String> =
        said.iter().map(|(typed, output)| said_by(world, typed.as_ref(), output)).collect();
    check(name, &text.join("\n"));
}

fn said_by(world: &World, typed: &str, output: &Output) -> String {
    let mut text = format!("$ {typed}\n");
    text.push_str(&fixed(world, &output.stdout));
    if !output.stderr.is_empty() {
        text.push_str("--- stderr\n");
        text.push_str(&fixed(world, &output.stderr));
    }
    match output.code() {
        Some(0) => {}
        code => text.push_str(&format!("--- status {}\n", code.map_or("none".to_owned(), |c| c.to_string()))),
    }
    text
}

/// Returns the text with the same words for what differs from run to run: the sandbox's folder, process ids, and times
/// of day. Widths stay.
fn fixed(world: &World, text: &str) -> String {
    let home = world.home().display().to_string();
    let text = text.replace(&home, "HOME").replace(&world.root().display().to_string(), "ROOT");
    let mut text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    // A pool that is empty or corrupt knows none.
    let registry = std::fs::read_to_string(world.pool_home().join("accounts.json")).unwrap_or_default();
    let registry: serde_json::Value = serde_json::from_str(&registry).unwrap_or_default();
    for account in registry["accounts"].as_array().into_iter().flatten() {
        if let (Some(id), Some(label)) = (account["id"].as_str(), account["label"].as_str()) {
            text = text.replace(id, &format!("<id of {label}>"));
        }
    }
    without_ages(&without_times(&without_pids(&text)))
}

/// Replaces an age of some seconds at the end of a line with `0s`.
fn without_ages(text: &str) -> String {
    let line = |line: &str| match line.rsplit_once("  ") {
        Some((before, age)) if age.strip_suffix('s').is_some_and(|n| n.parse::<u8>().is_ok()) => {
            format!("{before}  0s")
        }
        _ => line.to_owned(),
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

fn without_pids(text: &str) -> String {
    let mut parts = text.split("pid ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("pid 4711");
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}

/// Replaces `20:28` with `hh:mm`, a weekday in front of it with `Day`, and `12 Dec` with `dd Mon`.
fn without_times(text: &str) -> String {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut out: Vec<char> = text.chars().collect();
    let digit = |c: Option<&char>| c.is_some_and(char::is_ascii_digit);
    for at in 0..out.len() {
        if out[at] == ':' && at >= 2 && [at - 2, at - 1, at + 1, at + 2].iter().all(|i| digit(out.get(*i))) {
            out.splice(at - 2..at + 3, "hh:mm".chars());
        }
    }
    let mut text: String = out.into_iter().collect();
    for day in DAYS {
        text = text.replace(&format!("{day} hh:mm"), "Day hh:mm");
    }
    for month in MONTHS {
        while let Some(at) = text.find(&format!(" {month}")).filter(|at| ends_with_day(&text[..*at])) {
            let start = text[..at].rfind(|c: char| !c.is_ascii_digit()).map_or(0, |i| i + 1);
            // One digit or two: the width that the longer one has.
            let pad = if at - start == 1 { " " } else { "" };
            let rest = &text[at + 1 + month.len()..];
            let rest = if pad.is_empty() { rest } else { rest.strip_prefix(' ').unwrap_or(rest) };
            text = format!("{}dd Mon{rest}", &text[..start]);
        }
    }
    text
}

/// Returns whether a text ends with the number of a day.
fn ends_with_day(text: &str) -> bool {
    let digits = text.chars().rev().take_while(char::is_ascii_digit).count();
    (1..=2).contains(&digits)
}

/// Returns what a command shows on a terminal of so many columns.
#[track_caller]
fn on_terminal(world: &World, cmd: Cmd, columns: u16) -> String {
    let mut terminal = Pty::spawn(cmd.env("TZ", "UTC"), 60, columns);
    terminal.finish(Duration::from_secs(60));
    let lines: Vec<String> = terminal.screen().lines().map(|line| line.trim_end().to_owned()).collect();
    fixed(world, lines.join("\n").trim_end())
}

#[test]
fn times_of_day_are_replaced_and_nothing_else() {
    assert_eq!(
        without_times("a 20:28 (1h 5m), Fri 09:10, 12 Dec, 3 Jan  x"),
        "a hh:mm (1h 5m), Day hh:mm, dd Mon, dd Mon x"
    );
    assert_eq!(without_times("1:2 http://127.0.0.1:8080 Dec 5 %"), "1:2 http://127.0.0.1:8080 Dec 5 %");
    assert_eq!(without_ages("a  never\nb  7s\nc  12m"), "a  never\nb  0s\nc  12m");
    assert_eq!(without_pids("codex (pid 12), pid 3"), "codex (pid 4711), pid 4711");
}
