//! What commands say when they have done what they were asked, word for word.

use std::fs;

use testkit::backend::{LoginSpec, UserSpec};
use testkit::{Output, Pty, SOON, Sandbox, World, bins};

use crate::tables::{DAY, HOUR, five_and_week, know};
use crate::{check, check_said, on_terminal};

/// Settings with which nothing runs in the background that changes what is said.
const STILL: &str = "background_refresh = false\nattend = false\n";

/// What was typed and what came of it, one after the other.
struct Story<'a> {
    world: &'a World,
    said: Vec<(String, Output)>,
}

impl<'a> Story<'a> {
    fn of(world: &'a World) -> Story<'a> {
        Story { world, said: Vec::new() }
    }

    /// Runs `codex-pool` with these words.
    fn pool(&mut self, line: &str) -> &mut Self {
        self.fed(line, "")
    }

    /// The same with text on standard input.
    fn fed(&mut self, line: &str, stdin: &str) -> &mut Self {
        let words: Vec<&str> = line.split(' ').collect();
        let output = self.world.pool(&words).env("TZ", "UTC").stdin(stdin).run();
        self.said.push((format!("codex-pool {line}"), output));
        self
    }

    #[track_caller]
    fn check(&self, name: &str) {
        check_said(self.world, name, &self.said);
    }
}

fn two() -> World {
    let world = World::logged_in(&["work"]);
    world.add_as("private", UserSpec::new("private"), &LoginSpec::expires_in(5 * DAY + HOUR / 2));
    world.settings(STILL);
    used(&world, 30.0, 9.0);
    world
}

/// What is known: percent of 5 hours that `work` and `private` used.
fn used(world: &World, work: f64, private: f64) {
    let of = |five: f64, week: f64| five_and_week((five, HOUR), (week, 3 * DAY));
    know(world, &[("work", of(work, 48.0)), ("private", of(private, 21.0))]);
}

#[test]
fn changes_of_accounts_are_said_in_one_line_each() {
    let world = two();
    fs::create_dir(world.work().join("acme")).expect("a folder");
    Story::of(&world)
        .fed("add --label ci --with-api-key", "sk-test-messages\n")
        .fed("add --label ci --with-api-key", "sk-test-messages\n")
        .pool("rename private home")
        .pool("disable home")
        .pool("disable home")
        .pool("enable home")
        .pool("enable home")
        .pool("set home")
        .pool("set home --folder acme --reserve 20")
        .pool("set home --weight 3")
        .pool("set home --no-folders --reserve 0 --weight plan")
        .pool("export home --out home.json")
        .pool("export home work --access-only --out both.json")
        .pool("rm home --yes")
        .pool("rm work --yes --force")
        .pool("list")
        .check("changes");
}

#[test]
fn imports_say_what_became_of_each_document() {
    let world = World::new(&["work"]);
    let folder = world.work().join("logins");
    fs::create_dir(&folder).expect("a folder");
    world.backend().add("private");
    let private = world.backend().auth_json("private");
    world.write_private(&folder.join("a.json"), &world.backend().auth_json("work"));
    world.write_private(&folder.join("b.json"), &private);
    world.write_private(&folder.join("c.json"), "{");
    Story::of(&world)
        .pool("import logins")
        .pool("import logins/b.json")
        .fed("import -", &private)
        .pool("import logins/b.json --label home --rename")
        .check("imports");
}

#[test]
fn use_says_what_launches_will_use_and_how_to_undo_it() {
    let world = two();
    Story::of(&world)
        .pool("use private")
        .pool("use private")
        .pool("use --best")
        .pool("use work")
        .pool("use --auto")
        .pool("use --auto")
        .check("use");
}

#[test]
fn use_while_a_session_runs_says_what_keeps_the_file() {
    let world = two();
    world.pool(&["use", "work"]).run().ok();
    let session = world.hold(world.exec());
    let mut story = Story::of(&world);
    story
        .pool("use private")
        .pool("use --best")
        .pool("use private --restart-server")
        .pool("rm work --yes --force")
        .pool("use private --now");
    world.open_gate();
    session.wait();
    story.check("use-beside-a-session");
}

#[test]
fn launches_say_on_a_terminal_which_account_runs() {
    let world = two();
    let mut text = String::new();
    let mut launch = |what: &str, cmd| {
        text.push_str(&format!("$ codex exec hi  ({what})\n{}\n\n", on_terminal(&world, cmd, 100)));
    };
    launch("the first one", world.exec());
    launch("again", world.exec());
    launch("verbose", world.exec().env("CODEX_POOL_VERBOSE", "1"));
    launch("quiet, of another account", world.exec_as("work").env("CODEX_POOL_QUIET", "1"));
    launch("of a named account", world.exec_as("private"));
    let session = world.hold(world.exec());
    launch("beside a session, of the other account", world.exec_as("work"));
    world.settings(&format!("{STILL}parallel = \"off\"\n"));
    world.pool(&["use", "work"]).run().ok();
    launch("the same with parallel = \"off\"", world.exec());
    world.settings(STILL);
    world.open_gate();
    session.wait().ok();
    used(&world, 100.0, 9.0);
    launch("pinned to an account at its limit", world.exec());
    world.pool(&["use", "--auto"]).run().ok();
    used(&world, 100.0, 100.0);
    launch("all at their limit", world.exec());
    world.settings(&format!("{STILL}policy = 5\n"));
    launch("a wrong setting", world.exec());
    world.settings(STILL);
    let file = world.pool_home().join("accounts.json");
    let good = fs::read_to_string(&file).expect("the registry");
    world.write_private(&file, "{");
    launch("a corrupt pool", world.exec());
    world.write_private(&file, &good);
    check("launches", &text);
}

#[test]
fn status_has_one_line_in_each_state() {
    let world = two();
    let mut story = Story::of(&world);
    story
        .pool("status")
        .pool("status --format {label}:{5h}%")
        .pool("status --markup tmux")
        .pool("status --markup ansi");
    used(&world, 100.0, 9.0);
    story.pool("status");
    used(&world, 100.0, 100.0);
    story.pool("status");
    for label in ["work", "private"] {
        world.pool(&["disable", label]).run().ok();
    }
    story.pool("status").check("status");
}

#[test]
fn log_and_history_say_what_happened() {
    let world = two();
    world.exec().run().ok();
    world.pool(&["use", "work"]).run().ok();
    world.exec().run().ok();
    world.exec_as("stranger").run();
    Story::of(&world).pool("log").pool("log work").pool("why --last").pool("history --csv").check("log");
    let empty = World::new(&[]);
    Story::of(&empty)
        .pool("list")
        .pool("why")
        .pool("why --last")
        .pool("log")
        .pool("history")
        .pool("status")
        .pool("refresh")
        .pool("use --best")
        .check("empty-pool");
}

#[test]
fn questions_on_a_terminal_say_what_is_at_stake() {
    let world = two();
    // So wide that the path of the sandbox breaks no line.
    let mut terminal = Pty::spawn(world.pool(&["rm", "work", "--force"]), 20, 400);
    let question = terminal.wait_for_text("(y/N)", SOON);
    terminal.send("n\r");
    terminal.wait(SOON);
    let refused = terminal.wait_for_text("nothing was removed", SOON);
    let chooser = Pty::spawn(world.pool(&["use"]).env("TZ", "UTC"), 20, 120);
    let choice = chooser.wait_for("the chooser", SOON, |screen| screen.contains("every launch picks"));
    let text = [question, refused, choice].map(|screen| crate::fixed(&world, screen.trim_end()));
    check("questions", &text.join("\n---\n"));
}

#[test]
fn doctor_says_the_verdict_then_what_to_do() {
    let world = two();
    world.link_admin();
    // The stand-in has a version of its own, and with it an old version's traps.
    let codex = world.root().join("bin/codex");
    testkit::files::write_script(&codex, "echo codex-cli 0.169.0");
    Story::of(&world).pool("doctor").pool("doctor -v").check("doctor-healthy");
    testkit::files::set_mode(&world.pool_home(), 0o755);
    world.settings("policy = 5\nnonsense = 1\n");
    fs::write(world.stored_path("private"), "half a docu").expect("break it");
    fs::remove_file(codex).expect("no Codex");
    Story::of(&world).pool("doctor").pool("doctor --fix").check("doctor-faulty");
}

#[test]
fn logins_say_who_was_logged_in() {
    let world = two();
    world.backend().add("home");
    let login = |user: &str| world.backend().approve_login(user);
    let mut story = Story::of(&world);
    login("home");
    story.pool("add --label home --device-auth");
    login("home");
    story.pool("add --device-auth");
    login("work");
    story.pool("reauth work --device-auth");
    login("home");
    story.pool("reauth work --device-auth");
    story.check("logins");
}

#[test]
fn init_says_what_it_found_and_did() {
    let world = World::from(Sandbox::builder().without_pool().build());
    let folder = world.home().join("unpacked");
    fs::create_dir(&folder).expect("a folder");
    for program in [bins::codex_pool(), bins::shim()] {
        fs::copy(&program, folder.join(program.file_name().expect("a name"))).expect("copy a program");
    }
    world.backend().add("work");
    world.write_live(&world.backend().auth_json("work"));
    let path = std::env::join_paths([world.root().join("bin"), "/usr/bin".into(), "/bin".into()]);
    let path = path.expect("a PATH");
    let init = |args: &[&str]| {
        let typed =
            std::iter::once("codex-pool init").chain(args.iter().copied()).collect::<Vec<_>>().join(" ");
        let init = world.cmd(folder.join("codex-pool")).arg("init").args(args).env("PATH", &path);
        (typed, init.env("TZ", "UTC").run())
    };
    check_said(&world, "init", &[init(&[]), init(&["--yes"]), init(&["--yes"])]);
}
