use super::*;
use Command as C;

const ID: &str = "01a20398-0caa-7283-bd8a-b0d99fca54a3";

fn os(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// Words are separated by one blank, `''` is an empty word, `~` stands for a blank inside a word.
fn line(text: &str) -> Vec<OsString> {
    text.split(' ')
        .filter(|word| !word.is_empty())
        .map(|word| OsString::from(word.replace("''", "").replace('~', " ")))
        .collect()
}

fn command(text: &str) -> Command {
    parse(&line(text)).command
}

#[test]
fn each_command_is_recognised() {
    for (text, want) in [
        ("", C::Interactive),
        ("fix~the~bug", C::Interactive),
        ("unknown-command", C::Interactive),
        ("agents", C::Agents),
        ("exec hi", C::Exec),
        ("e hi", C::Exec),
        ("exec -", C::Exec),
        ("exec resume --last", C::ExecResume),
        ("e fork x", C::ExecFork),
        ("exec review --uncommitted", C::ExecReview),
        ("review --base main", C::Review),
        ("login", C::Login),
        ("login --device-auth", C::Login),
        ("login --with-api-key", C::Login),
        ("logout", C::Logout),
        ("resume", C::Resume),
        ("fork", C::Fork),
        ("queue --thread x --message m", C::Queue),
        ("app-server", C::AppServer),
        ("app-server --listen stdio://", C::AppServer),
        ("app-server --remote-control", C::AppServer),
        ("mcp-server", C::McpServer),
        ("remote-control", C::RemoteControl),
        ("remote-control start", C::RemoteControl),
        ("remote-control --json pair", C::RemoteControl),
        ("cloud", C::Cloud),
        ("cloud exec --env e q", C::Cloud),
        ("apply t", C::Apply),
        ("a t", C::Apply),
    ] {
        assert_eq!(command(text), want, "codex {text}");
        assert!(parse(&line(text)).needs_account(), "codex {text}");
    }
}

#[test]
fn what_needs_no_account() {
    for text in [
        "-h",
        "--help",
        "help",
        "help exec",
        "-V",
        "--version",
        "completion bash",
        "mcp",
        "mcp login x",
        "mcp logout x",
        "plugin list",
        "features list",
        "sandbox -- codex login",
        "debug models",
        "update",
        "doctor --json",
        "app-server daemon stop",
        "app-server proxy",
        "app-server generate-ts -o d",
        "app-server generate-json-schema",
        "app-server help",
        "remote-control stop",
        "remote-control --json stop",
        "login status",
        "login -c a=b status",
        "archive x",
        "delete x",
        "unarchive x",
        "migrate-rollouts",
        "migrate-nfs-db",
        "exec-server",
        "exec --help",
        "exec -h",
        "exec -V",
        "exec help",
        "cloud help",
        "login help",
        "login --help",
        "logout -h",
        "resume --help",
        "fork -h",
        "exec resume --help",
        "-m x --help",
        "hi --help",
        "-hx",
        "--search mcp list",
        "prompt login status",
    ] {
        let argv = line(text);
        assert!(!parse(&argv).needs_account(), "codex {text}");
        assert!(!parse(&argv).is_login() && !parse(&argv).is_logout(), "codex {text}");
    }
}

/// Words that only look like commands, each as the real binaries take it.
#[test]
fn hostile_lines() {
    for (text, want) in [
        ("-- login", C::Interactive),
        ("-- logout", C::Interactive),
        ("-- --help", C::Interactive),
        ("-- -h", C::Interactive),
        ("exec -- login", C::Exec),
        ("exec -- resume", C::Exec),
        ("exec -- --version", C::Exec),
        ("exec login", C::Exec),
        ("exec logout", C::Exec),
        ("exec mcp", C::Exec),
        ("login~to~the~site", C::Interactive),
        ("logout~", C::Interactive),
        ("''", C::Interactive),
        ("'' logout", C::Logout),
        ("-", C::Interactive),
        ("- login", C::Login),
        // A list swallows what follows, up to the next option.
        ("-i a logout", C::Interactive),
        ("-i a b c login", C::Interactive),
        ("-i - login", C::Interactive),
        ("--image a logout", C::Interactive),
        ("-i a -m x logout", C::Logout),
        ("-i a --search logout", C::Logout),
        ("-ia logout", C::Logout),
        ("-i=a logout", C::Logout),
        ("-ic logout", C::Logout),
        ("--image=a logout", C::Logout),
        ("-i a -- logout", C::Interactive),
        ("exec -i a resume", C::Exec),
        ("exec -i a -m x resume", C::ExecResume),
        // Values of options
        ("-m login", C::Interactive),
        ("-m login exec", C::Exec),
        ("--model=login exec", C::Exec),
        ("--model login exec", C::Exec),
        ("-mlogin exec", C::Exec),
        ("-m=login exec", C::Exec),
        ("-m - login", C::Login),
        ("-p logout exec x", C::Exec),
        ("-s login", C::Interactive),
        ("-a login", C::Interactive),
        ("-C login exec", C::Exec),
        ("--cd=login exec", C::Exec),
        ("--add-dir login exec", C::Exec),
        ("--remote login", C::Interactive),
        ("--remote-auth-token-env login", C::Interactive),
        ("--local-provider login", C::Interactive),
        ("--enable login exec", C::Exec),
        ("--disable login exec", C::Exec),
        ("-c login exec", C::Exec),
        ("-c -h", C::Local),
        ("exec -o resume", C::Exec),
        ("exec --output-schema resume x", C::Exec),
        ("exec --color never resume x", C::ExecResume),
        ("exec --thread-source resume", C::Exec),
        ("login --api-key status", C::Login),
        ("login --experimental_issuer status", C::Login),
        ("app-server --listen daemon", C::AppServer),
        // Flags take none.
        ("--oss exec", C::Exec),
        ("--no-daemon resume", C::Resume),
        ("--dangerously-bypass-approvals-and-sandbox e", C::Exec),
        ("--unknown-flag exec", C::Exec),
        // A sub-command behind a prompt is one, behind two Codex stops with a usage error.
        ("foo login", C::Login),
        ("foo bar logout", C::Interactive),
        ("exec foo resume", C::ExecResume),
        ("resume login", C::Resume),
        ("resume help", C::Resume),
        ("review logout", C::Review),
        ("LOGIN", C::Interactive),
        ("log", C::Interactive),
    ] {
        assert_eq!(command(text), want, "codex {text}");
    }
}

#[test]
fn threads_are_found() {
    for (text, want) in [
        ("", Target::None),
        ("resume", Target::Picked),
        ("fork --all", Target::Picked),
        (&format!("resume {ID}") as &str, Target::Thread(ID)),
        (&format!("resume -- {ID}"), Target::Thread(ID)),
        (&format!("resume -m x {ID} go~on"), Target::Thread(ID)),
        (&format!("--no-daemon resume {ID}"), Target::Thread(ID)),
        (&format!("hi resume {ID}"), Target::Thread(ID)),
        (&format!("fork {ID}"), Target::Thread(ID)),
        (&format!("resume {}", ID.to_uppercase()), Target::Thread(&ID.to_uppercase())),
        ("resume my-work", Target::Name("my-work")),
        ("resume 01a20398", Target::Name("01a20398")),
        ("resume --last", Target::Last),
        ("--last resume", Target::Last),
        ("resume --last go~on", Target::Last),
        ("fork --last", Target::Last),
        ("agents", Target::Last),
        (&format!("resume -i {ID}"), Target::Picked),
        (&format!("exec resume {ID} hi"), Target::Thread(ID)),
        (&format!("exec resume -i a {ID}"), Target::Thread(ID)),
        (&format!("exec resume -i a -i b {ID}"), Target::Thread(ID)),
        (&format!("exec --json resume --all {ID}"), Target::Thread(ID)),
        (&format!("exec hi resume {ID}"), Target::Thread(ID)),
        ("exec resume --last hi", Target::Last),
        ("exec resume", Target::None),
        (&format!("exec fork {ID}"), Target::Thread(ID)),
        (&format!("exec fork -i a {ID} hi"), Target::Thread(ID)),
        (&format!("queue --thread {ID} --message hi"), Target::Thread(ID)),
        (&format!("queue --message={ID} --thread=name"), Target::Name("name")),
        (&format!("hi queue --message {ID}"), Target::None),
        (&format!("exec {ID}"), Target::None),
        (ID, Target::None),
        ("exec --last", Target::None),
    ] {
        assert_eq!(parse(&line(text)).target, want, "codex {text}");
    }
}

#[test]
fn settings_are_collected_in_order() {
    let argv = line("-c a=1 -p one -C /x exec -cb=2 -c=c=3=4 --config d=5 --config=e=6 -p two --cd y f=7");
    let inv = parse(&argv);
    assert_eq!(inv.overrides, [("a", "1"), ("b", "2"), ("c", "3=4"), ("d", "5"), ("e", "6")]);
    assert_eq!((inv.profile, inv.cd), (Some("two"), Some(OsStr::new("y"))));
    let argv = os(&["-c", " k = \"v\" ", "-c", "nothing", "--", "-c", "x=y"]);
    assert_eq!(parse(&argv).overrides, [("k", "\"v\"")]);
}

#[test]
fn what_attaches_to_the_server() {
    for (text, want) in [
        ("", true),
        ("hi", true),
        ("resume --last", true),
        ("fork x", true),
        ("agents", true),
        ("-m x", true),
        ("--no-daemon", false),
        ("resume --no-daemon x", false),
        ("--no-daemon agents", false),
        ("-c a=b", false),
        ("--remote ws://h:1", false),
        ("exec hi", false),
        ("review", false),
        ("login", false),
        ("mcp list", false),
        ("-- --no-daemon", true),
    ] {
        assert_eq!(parse(&line(text)).attaches(), want, "codex {text}");
    }
}

#[test]
fn own_options_go_where_they_count() {
    for (text, want) in [
        ("", "+"),
        ("hi", "+ hi"),
        ("-- hi", "+ -- hi"),
        ("-i a b", "+ -i a b"),
        ("exec hi", "+ exec hi"),
        ("exec resume x", "+ exec resume x"),
        ("-c a=b", "-c a=b +"),
        ("-c a=b hi", "-c a=b + hi"),
        ("-c a=b exec hi", "-c a=b + exec hi"),
        // Up to 0.159 what stands before `exec` would be dropped here.
        ("-c a=b exec -c c=d hi", "-c a=b exec -c c=d + hi"),
        ("exec --config=c=d resume -ce=f x", "exec --config=c=d resume -ce=f + x"),
        ("exec hi -c a=b -- -c", "exec hi -c a=b + -- -c"),
        ("-i a b -c a=b", "-i a b -c a=b +"),
        ("exec -c", "+ exec -c"),
    ] {
        let argv = line(text);
        assert_eq!(parse(&argv).with_extra(&argv, &os(&["+"])), line(want), "codex {text}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_only_words() {
    let bad = || OsStr::from_bytes(b"log\xffin").to_owned();
    let argv = [bad(), "login".into()];
    assert_eq!(parse(&argv).command, C::Login);
    assert_eq!(parse(&[bad()]).command, C::Interactive);
    assert_eq!(parse(&["resume".into(), bad()]).target, Target::None);
    let argv = ["-C".into(), bad(), "-c".into(), bad(), "-p".into(), bad(), "exec".into()];
    let inv = parse(&argv);
    assert_eq!((inv.command, inv.cd, inv.profile), (C::Exec, Some(bad().as_os_str()), None));
    assert!(inv.overrides.is_empty());
    let cluster = OsStr::from_bytes(b"-\xff\xfe").to_owned();
    assert_eq!(parse(&[cluster, "logout".into()]).command, C::Logout);
}

#[test]
fn broken_ends_do_no_harm() {
    for text in ["-c", "-i", "-m", "--model", "-C", "exec -o", "resume --", "--", "--=", "-=", "--config="] {
        let argv = line(text);
        let _ = parse(&argv).with_extra(&argv, &os(&["+"]));
    }
}

#[test]
fn where_a_session_may_write() {
    let argv: Vec<OsString> =
        ["-s", "read-only", "exec", "--add-dir", "a", "--add-dir=b", "-C", "c"].map(OsString::from).to_vec();
    let call = parse(&argv);
    assert_eq!((call.sandbox, call.cd), (Some("read-only"), Some("c".as_ref())));
    assert_eq!(call.added_dirs, ["a", "b"]);
    assert!(!call.may_change_files());
    for (words, may) in [
        ("", true),
        ("hi", true),
        ("exec hi", true),
        ("exec -s workspace-write resume --last", true),
        ("resume --sandbox danger-full-access", true),
        ("fork --sandbox=read-only", false),
        ("exec review", false),
        ("review", false),
        ("login", false),
        ("app-server", false),
    ] {
        let argv: Vec<OsString> = words.split_whitespace().map(OsString::from).collect();
        assert_eq!(parse(&argv).may_change_files(), may, "{words}");
    }
}

#[test]
fn exec_goes_on_with_its_options_in_front_and_without_prompt_and_images() {
    let went_on = |text: &str| {
        let words = line(text);
        let again = parse(&words).resuming(&words, ID);
        let again = again.iter().map(|word| word.to_string_lossy().replace(' ', "~")).collect::<Vec<_>>();
        again.join(" ").replace(ID, "ID")
    };
    for (first, then) in [
        ("exec hi", "exec resume ID continue"),
        ("e -s read-only --json -o out - ", "e -s read-only --json -o out resume ID continue"),
        ("-c a=1 exec -C /x -m gpt hi~there", "-c a=1 exec -C /x -m gpt resume ID continue"),
        ("exec -i a.png b.png -m gpt hi", "exec -m gpt resume ID continue"),
        ("exec hi --image=a.png --json", "exec --json resume ID continue"),
        ("exec -ia.png -- --json", "exec resume ID continue"),
        ("exec -s read-only resume --json x -i a.png hi", "exec -s read-only --json resume ID continue"),
        ("exec resume --last --all hi", "exec resume ID continue"),
        ("exec fork --skip-git-repo-check x hi", "exec --skip-git-repo-check resume ID continue"),
        ("exec --json resume x continue", "exec --json resume ID continue"),
    ] {
        assert_eq!(went_on(first), then, "{first}");
        let again = went_on(then);
        assert_eq!(again, then, "once more");
        let words = line(&then.replace("ID", ID));
        assert_eq!(parse(&words).target, Target::Thread(ID), "{then}");
    }
}

#[test]
fn last_becomes_a_thread() {
    let named = |text: &str| {
        let words = line(text);
        let named = parse(&words).with_thread(&words, ID)?;
        Some(named.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" "))
    };
    let is = |text: &str, wanted: &str| assert_eq!(named(text).as_deref(), Some(&*wanted.replace("ID", ID)));
    is("exec resume --last go", "exec resume ID go");
    is("exec resume go --last --json", "exec resume ID go --json");
    is("-m gpt resume --last", "-m gpt resume ID");
    for none in ["exec resume x go", "fork --last", "exec --last", "resume"] {
        assert_eq!(named(none), None, "{none}");
    }
}

#[test]
fn what_cannot_be_resumed_is_known() {
    for (text, cannot) in [
        ("exec hi", false),
        ("exec --ephemeral hi", true),
        ("exec resume x hi --worktree", true),
        ("exec --oss hi", true),
        ("exec -- --ephemeral", false),
    ] {
        assert_eq!(parse(&line(text)).cannot_resume, cannot, "{text}");
    }
    for (text, json) in [("exec --json hi", true), ("exec --experimental-json", true), ("exec hi", false)] {
        assert_eq!(parse(&line(text)).json, json, "{text}");
    }
}
