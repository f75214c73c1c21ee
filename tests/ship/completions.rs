//! Completions in the real shells, and manual pages in the real `man`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use testkit::{Cmd, Pty, backend, bins, needs};

use crate::place::Place;

const VERBS: [&str; 10] =
    ["reauth", "export", "rm", "rename", "enable", "disable", "set", "refresh", "use", "run"];

/// A machine with codex-pool on PATH and three accounts.
fn place() -> Place {
    let mut place = Place::new();
    place.link_tool("codex-pool", &bins::codex_pool());
    fs::create_dir(place.home.join(".codex")).expect("folder");
    for (number, label) in ["work", "work too", "ada@example.com"].iter().enumerate() {
        let key = backend::api_key_json(&format!("sk-{number}"));
        fs::write(place.home.join("key.json"), key).expect("write");
        place.sh(&format!("codex-pool import key.json --label '{label}'")).ok();
    }
    place
}

fn script(place: &Place, shell: &str) -> PathBuf {
    let file = place.home.join(format!("completions.{shell}"));
    fs::write(&file, place.sh(&format!("codex-pool completions {shell}")).ok().out).expect("write");
    file
}

#[test]
fn bash_offers_labels_options_and_verbs() {
    let Some(bash) = needs("bash") else { return };
    let mut place = place();
    let file = script(&place, "bash");
    place.shell(&[bash.as_os_str()]);
    // Words as bash makes them: it breaks at `@`, too, and tells the function the part behind that.
    let offers = |line: &str| -> Vec<String> {
        let ask = format!(
            "source '{}'; COMP_LINE={line:?}; COMP_POINT=${{#COMP_LINE}}; read -ra COMP_WORDS <<<\"${{COMP_LINE//@/ @ }}\"\n\
             case $COMP_LINE in *' ') COMP_WORDS+=('') ;; esac; COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             f=$(complete -p codex-pool); f=${{f##*-F }}; f=${{f%% *}}\n\
             $f codex-pool \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            file.display()
        );
        let out = place.sh(&ask).ok().out;
        out.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    for verb in VERBS {
        assert_eq!(
            offers(&format!("codex-pool {verb} ")),
            ["work", "work\\ too", "ada@example.com"],
            "{verb}"
        );
    }
    assert_eq!(offers("codex-pool share take-over wo"), ["work", "work\\ too"]);
    assert_eq!(offers("codex-pool share code --m"), ["--member"]);
    assert!(offers("codex-pool share ").contains(&"rotate".to_owned()));
    assert_eq!(offers("codex-pool use wo"), ["work", "work\\ too"]);
    assert_eq!(offers("codex-pool use ada@ex"), ["example.com"], "what is before the @ stays on the line");
    assert_eq!(offers("codex-pool rm --yes w"), ["work", "work\\ too"]);
    assert_eq!(offers("codex-pool rename work wor"), [] as [&str; 0], "the second word is a new label");
    assert_eq!(offers("codex-pool use --be"), ["--best"]);
    assert_eq!(offers("codex-pool rm --"), ["--yes", "--force", "--help"]);
    assert_eq!(offers("codex-pool completions b"), ["bash"]);
    assert!(!offers("codex-pool ").iter().any(|verb| verb.starts_with('_')), "hidden verbs stay hidden");
    assert!(offers("codex-pool re").contains(&"reauth".to_owned()));
}

#[test]
fn fish_offers_labels_options_and_verbs() {
    let Some(fish) = needs("fish") else { return };
    let mut place = place();
    let file = script(&place, "fish");
    place.shell(&[fish.as_os_str()]);
    let offers = |line: &str| -> Vec<String> {
        let out = place.sh(&format!("source '{}'; complete -C '{line}'", file.display())).ok().out;
        let offers = out.lines().map(|offer| offer.split('\t').next().unwrap_or_default().to_owned());
        offers.collect()
    };
    for verb in VERBS {
        let mut labels = offers(&format!("codex-pool {verb} "));
        labels.sort();
        assert_eq!(labels, ["ada@example.com", "work", "work too"], "{verb}");
    }
    assert_eq!(offers("codex-pool share logout ada"), ["ada@example.com"]);
    assert_eq!(offers("codex-pool share code --m"), ["--member"]);
    assert_eq!(offers("codex-pool use ada@ex"), ["ada@example.com"]);
    assert_eq!(offers("codex-pool rm --yes ad"), ["ada@example.com"]);
    assert!(!offers("codex-pool rename work wor").contains(&"work".to_owned()));
    assert_eq!(offers("codex-pool use --be"), ["--best"]);
    assert!(!offers("codex-pool ").iter().any(|verb| verb.starts_with('_')));
}

#[test]
fn zsh_offers_labels_options_and_verbs() {
    let Some(zsh) = needs("zsh") else { return };
    let place = place();
    let file = script(&place, "zsh");
    let limit = Duration::from_secs(30);
    let mut cmd = Cmd::new(zsh).args(["-f", "-i"]).current_dir(&place.home);
    cmd.inner().envs(place.variables());
    let mut terminal = Pty::spawn(cmd.env("PS1", "ready> "), 30, 120);
    terminal.wait_for_text("ready> ", limit);
    terminal.send_line("autoload -U compinit; compinit -u -D; setopt no_auto_menu no_beep");
    terminal.send_line(&format!("source '{}'; echo loa''ded", file.display()));
    terminal.wait_for_text("loaded", limit);
    for (typed, completed) in [
        ("codex-pool use ada", "codex-pool use ada@example.com"),
        ("codex-pool rm --yes ad", "codex-pool rm --yes ada@example.com"),
        ("codex-pool rename w", "codex-pool rename work"),
        ("codex-pool share logout ada", "codex-pool share logout ada@example.com"),
        ("codex-pool use --be", "codex-pool use --best"),
        ("codex-pool comple", "codex-pool completions"),
    ] {
        terminal.send(&format!("{typed}\t"));
        terminal.wait_for_text(completed, limit);
        // Throws the line away, and the menu with it.
        terminal.send("\x15\x0c");
        terminal.wait_gone(completed, limit);
    }
    terminal.send("codex-pool use \t");
    terminal.wait_for("all labels", limit, |s| {
        s.contains("ada@example.com") && s.contains("work\\ too") || s.contains("work too")
    });
}

#[test]
fn verbs_have_manual_pages_that_man_can_read() {
    let place = place();
    let main = place.sh("codex-pool man").ok().out;
    for section in ["NAME", "SYNOPSIS", "SUBCOMMANDS", "EXAMPLES", "EXIT STATUS", "ENVIRONMENT", "FILES"] {
        assert!(
            main.contains(&format!(".SH {section}\n")) || main.contains(&format!(".SH \"{section}\"\n")),
            "{section}"
        );
    }
    place.sh("codex-pool man --dir pages/man1").ok();
    let folder = place.home.join("pages/man1");
    let mut pages: Vec<_> =
        fs::read_dir(&folder).expect("pages").map(|page| page.expect("page").path()).collect();
    pages.sort();
    assert_eq!(fs::read_to_string(folder.join("codex-pool.1")).expect("page"), main);
    let help = place.sh("codex-pool --help").ok().out;
    let verbs = help.split("Commands:").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("commands");
    // `help` is explained by itself.
    let verbs = verbs.lines().filter_map(|line| line.split_whitespace().next());
    for verb in verbs.filter(|verb| *verb != "help") {
        assert!(pages.contains(&folder.join(format!("codex-pool-{verb}.1"))), "{verb}");
    }
    assert!(pages.contains(&folder.join("codex-pool-share-join.1")), "verbs below a verb, too");
    assert!(!pages.iter().any(|page| page.to_string_lossy().contains("__")));
    let Some(man) = needs("man") else { return };
    for page in &pages {
        let out =
            Cmd::new(&man).arg("-l").arg(page).env("PATH", std::env::var_os("PATH").expect("PATH")).run();
        // macOS's man has no -l, and then there is nothing to see.
        if out.code() == Some(0) && !out.stdout.is_empty() {
            assert!(out.stdout.contains("SYNOPSIS") && out.stderr.is_empty(), "{out}");
        }
    }
}
