//! The recipes of docs/status.md, as they stand there, run by the programs that they are for.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use testkit::{Cmd, Codex, Pty, SOON, World, needs, takes, wait_until};

use super::{pool_of, use_up};

/// What the line says of the live account.
const LINE: &str = "alice · 5h 70% · week 55%";

/// Waits until a terminal shows it. In a locale that is not UTF-8, the dots between the parts are something else.
#[track_caller]
fn wait_for_line(terminal: &Pty) {
    terminal.wait_for("the line", SOON, |screen| LINE.split(" · ").all(|part| screen.contains(part)));
}

/// Returns the lines of the recipe that this line introduces.
fn recipe(introduction: &str) -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/status.md");
    let page = fs::read_to_string(page).expect("the page");
    let after = page.split(&format!("\n{introduction}")).nth(1).expect(introduction);
    let block = after.split("```").nth(1).expect("a block");
    block.split_once('\n').expect("lines").1.to_owned()
}

fn alice() -> World {
    let world = pool_of(&["alice"]);
    use_up(&world, "alice", 30.0, 45.0);
    world.pool(&["use", "alice"]).run().ok();
    world
}

/// Writes a file for the program that reads a recipe.
fn settings(world: &World, name: &str, text: &str) -> PathBuf {
    let path = world.work().join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("make it");
    fs::write(&path, text).expect("write settings");
    path
}

/// Starts a shell in a terminal and waits until its prompt has the line.
fn shell(command: Cmd) {
    let mut terminal = Pty::spawn(command, 10, 100);
    wait_for_line(&terminal);
    terminal.send("exit\r");
    assert!(terminal.wait(SOON).success());
}

#[test]
fn tmux_shows_the_line() {
    let Some(tmux) = needs("tmux") else { return };
    let world = alice();
    let file = settings(&world, "tmux.conf", &recipe("tmux, in"));
    // The path of a socket has to be short.
    let tmux = |args: &[&str]| world.cmd(&tmux).args(["-S", "t", "-f"]).arg(&file).args(args);
    let terminal = Pty::spawn(tmux(&["new-session", "sh"]), 10, 100);
    wait_for_line(&terminal);
    tmux(&["kill-server"]).run().ok();
}

#[test]
fn prompts_of_zsh_bash_and_fish_have_the_line() {
    let world = alice();
    if let Some(zsh) = needs("zsh") {
        settings(&world, ".zshrc", &recipe("zsh, in"));
        shell(world.cmd(zsh).arg("-i").env("ZDOTDIR", world.work()));
    }
    if let Some(bash) = needs("bash") {
        let file = settings(&world, "bashrc", &recipe("bash, in"));
        shell(world.cmd(bash).args(["--noprofile", "--rcfile"]).arg(file).arg("-i"));
    }
    if let Some(fish) = needs("fish") {
        settings(&world, "fish/config.fish", &recipe("fish, in"));
        shell(world.cmd(fish).arg("-i").env("XDG_CONFIG_HOME", world.work()));
    }
}

#[test]
fn starship_has_the_line_as_a_module() {
    let world = alice();
    let text = recipe("starship, in");
    let table: toml::Table = text.parse().expect("TOML");
    let command = table["custom"]["codex"]["command"].as_str().expect("a command").to_owned();
    assert_eq!(world.cmd("sh").args(["-c", &command]).run().ok().stdout.trim_end(), LINE);
    let Some(starship) = takes("starship") else { return };
    let file = settings(&world, "starship.toml", &text);
    let prompt = || world.cmd(&starship).arg("prompt").env("STARSHIP_CONFIG", &file).run().stdout;
    // It gives a command half a second.
    wait_until("the line in the prompt", SOON, || prompt().contains(LINE));
}

#[test]
fn i3blocks_hands_each_change_to_i3bar() {
    let Some(i3blocks) = takes("i3blocks") else { return };
    let world = alice();
    let file = settings(&world, "i3blocks.conf", &recipe("i3blocks, for"));
    let bar = world.cmd(i3blocks).arg("-c").arg(file).spawn();
    // The protocol: a header, and an endless array of arrays of blocks.
    let block = |output: &str| {
        let last = output.lines().rfind(|line| line.starts_with(",[") && line.ends_with(']'))?;
        let blocks: Vec<Value> = serde_json::from_str(&last[1..]).expect("JSON");
        blocks.into_iter().find(|block| block["name"] == "codex")
    };
    let shows = |left: &str| {
        wait_until("the block", SOON, || {
            block(&bar.stdout()).is_some_and(|block| {
                let text = block["full_text"].as_str().unwrap_or_default();
                text.contains("alice · 5h <span") && text.contains(left) && block["markup"] == "pango"
            })
        });
    };
    shows(">70</span>%");
    let header = bar.stdout();
    let header: Value = serde_json::from_str(header.lines().next().expect("a header")).expect("JSON");
    assert_eq!(header["version"], 1);
    use_up(&world, "alice", 60.0, 45.0);
    shows(">40</span>%");
}

#[test]
fn waybar_gets_an_object_per_change() {
    let world = alice();
    let module: Value =
        serde_json::from_str(&format!("{{{}}}", recipe("waybar, in"))).expect("settings of waybar");
    let module = &module["custom/codex"];
    assert_eq!(module["return-type"], "json");
    let exec = module["exec"].as_str().expect("a command");
    let bar = world.cmd("sh").args(["-c", exec]).spawn();
    let lines = |count: usize| {
        wait_until("the lines", SOON, || bar.stdout().lines().count() >= count);
        bar.stdout()
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
            .collect::<Vec<_>>()
    };
    lines(1);
    use_up(&world, "alice", 95.0, 45.0);
    let lines = lines(2);
    let classes: Vec<&str> = lines.iter().map(|line| line["class"].as_str().expect("a class")).collect();
    assert_eq!(classes, ["good", "low"], "{lines:?}");
    for line in lines {
        let texts =
            ["text", "tooltip"].map(|name| line[name].as_str().is_some_and(|text| text.contains("alice")));
        assert!(texts == [true, true] && line["percentage"].is_number(), "{line}");
    }
}

#[test]
fn title_and_status_line_of_codex_have_what_is_left() {
    let Some(codex) = Codex::real_of(testkit::PINNED) else { return };
    let world = World::with(codex, &["alice"]);
    world.pool(&["use", "alice"]).run().ok();
    let recipe: toml::Table = recipe("Codex itself").parse().expect("TOML");
    world.edit_config(|config| config.extend(recipe));
    let mut ui = world.terminal(world.codex(&[]));
    world.ask(&mut ui, "alice");
    wait_until("the title", SOON, || {
        ui.raw().split("\x1b]0;").skip(1).any(|title| {
            let title = title.split('\x07').next().unwrap_or_default();
            title.contains("5h ") && title.contains("weekly ") && title.contains("% left")
        })
    });
    ui.wait_for("the status line", SOON, |screen| {
        screen.lines().any(|line| line.contains("5h ") && line.contains("weekly ") && line.contains('%'))
    });
    ui.quit_codex();
}
