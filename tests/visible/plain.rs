//! For terminals and readers without colours and block characters.

use testkit::Pty;

use super::{pool_of, use_up};

#[test]
fn ascii_and_no_colour_hold_for_every_table() {
    let world = pool_of(&["alice", "bob"]);
    use_up(&world, "alice", 30.0, 30.0);
    use_up(&world, "bob", 0.0, 60.0);
    world.pool(&["use", "alice"]).run().ok();
    for args in
        [&["list", "--ascii"][..], &["--ascii", "why"], &["status", "--ascii"], &["history", "--ascii"]]
    {
        let text = world.pool(args).run().ok().stdout;
        assert!(text.is_ascii() && text.contains("alice"), "{args:?}: {text}");
    }
    // Lines and errors, too: the range of a percentage, the marks around what is shortened.
    let text = world.pool(&["list", "--ascii", "--verbose"]).run().ok();
    assert!(text.stdout.is_ascii() && text.stderr.is_ascii(), "{text}");
    let shell = world.pool(&["use", "x×y→z", "--ascii"]).run();
    assert!(shell.stderr.is_ascii() && shell.stderr.contains("`xxy>z`"), "{shell}");
    for args in [&["log", "--ascii"][..], &["doctor", "-v", "--ascii"], &["why", "--last", "--ascii"]] {
        let text = world.pool(args).run().stdout;
        assert!(text.is_ascii() && !text.is_empty(), "{args:?}: {text}");
    }
    let view = Pty::spawn(world.pool(&["watch", "--ascii", "--no-color", "--interval", "86400"]), 40, 120);
    let screen = view.wait_for_text("q quit", testkit::SOON);
    assert!(screen.is_ascii() && screen.contains("alice") && screen.contains("resets -"), "{screen}");
    assert!(!view.raw().contains("\x1b[38;5;"), "colours");
    drop(view);
    let list = world.pool(&["list"]).run().ok().stdout;
    assert!(list.contains('█') && list.contains('│') && list.contains("100 % · not started"), "{list}");
    assert!(list.contains("\nnext: alice (it is pinned)\n"), "{list}");
    let coloured = |args: &[&str]| {
        let mut terminal = Pty::spawn(world.pool(args).env("TERM", "xterm-256color"), 30, 120);
        terminal.finish(testkit::SOON);
        terminal.raw().contains("\x1b[32m")
    };
    assert!(coloured(&["list"]), "colours are there otherwise");
    assert!(!coloured(&["list", "--no-color"]) && !coloured(&["--no-color", "list"]));
}
