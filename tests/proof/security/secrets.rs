//! Runs every command under every fault, and looks for tokens and keys in what it prints, in files outside the places
//! for credentials, in arguments and environments.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::backend::{Fault, LoginSpec, Route, api_key_json};
use testkit::files::{files_below, write_script};
use testkit::{Codex, Output, SOON, Sandbox, wait_until};

use super::Stop;
use crate::lab::Lab;

const API_KEY: &str = "fake-key-of-the-robot-account-0123456789";

/// Returns all secrets, and a piece from the middle of each long one, in case it is cut.
fn secrets(world: &Sandbox) -> Vec<String> {
    let mut secrets = world.backend().secrets();
    secrets.push(API_KEY.to_owned());
    let pieces: Vec<String> =
        secrets.iter().filter(|s| s.len() > 200).map(|s| s[s.len() - 60..s.len() - 10].to_owned()).collect();
    secrets.extend(pieces);
    secrets
}

fn find<'a>(secrets: &'a [String], bytes: &[u8]) -> Option<&'a String> {
    let text = String::from_utf8_lossy(bytes);
    secrets.iter().find(|secret| text.contains(secret.as_str()))
}

/// Returns whether a path is a place for credentials.
fn may_hold(world: &Sandbox, path: &Path) -> bool {
    let pool = world.pool_home();
    path.starts_with(pool.join("auth"))
        || path.starts_with(pool.join("lost+found"))
        // The second is left where it cannot be removed, until the next swap.
        || path.file_name().is_some_and(|name| name == "auth.json" || name == ".auth.json.codex-pool.tmp")
        || path.starts_with(world.work().join("given"))
}

/// The commands, each as one line of words; `ISSUER` is the address of the stand-in service.
const COMMANDS: [&str; 42] = [
    "codex-pool list",
    "codex-pool list --refresh --verbose",
    "codex-pool list --json",
    "codex-pool why",
    "codex-pool why --json",
    "codex-pool refresh",
    "codex-pool refresh --json",
    "codex-pool refresh alice",
    "codex-pool refresh --background",
    "codex-pool doctor",
    "codex-pool doctor --online",
    "codex-pool doctor --json",
    "codex-pool doctor --fix",
    "codex-pool use bob",
    "codex-pool use --best",
    "codex-pool use --auto",
    "codex-pool use stranger",
    "codex-pool rename bob bobby",
    "codex-pool rename bobby bob",
    "codex-pool disable bob",
    "codex-pool enable bob",
    "codex-pool import given/new.json --label new",
    "codex-pool import given/broken.json",
    "codex-pool import given/odd.json",
    "codex-pool export alice --out given/out.json",
    "codex-pool export stranger",
    "codex-pool run alice -- exec --skip-git-repo-check hi",
    "codex-pool run --best -- exec --skip-git-repo-check hi",
    "codex-pool add --with-api-key --label robot",
    "codex-pool reauth alice --device-auth -- --experimental_issuer ISSUER",
    "codex-pool update --check",
    "codex-pool rm new --yes",
    "codex-pool completions bash",
    "codex-pool __complete-refs",
    "codex exec --skip-git-repo-check hi",
    "codex login status",
    "codex-pool status --json",
    "codex-pool history --json",
    "codex-pool log",
    "codex-pool log --json",
    "codex-pool why --last",
    "codex-pool doctor --bundle report.json",
];

fn run_all(world: &Lab, what: &str) {
    for line in COMMANDS {
        let line = line.replace("ISSUER", &world.backend().url());
        let mut words = line.split(' ');
        let mut cmd = world.cmd(words.next().expect("a program")).args(words);
        cmd = cmd.env("CODEX_POOL_VERBOSE", "1").timeout(Duration::from_secs(90));
        if line.contains("--with-api-key") {
            cmd = cmd.stdin(API_KEY);
        }
        if line.contains("--device-auth") {
            // The login is that of another account.
            world.backend().approve_login("bob");
        }
        let output = cmd.run();
        world.backend().forget_approvals();
        assert_says_none(world, what, &line, &output);
    }
    assert_holds_none(world, what);
}

/// Requires that a command shows no secret.
fn assert_says_none(world: &Sandbox, what: &str, line: &str, output: &Output) {
    let secrets = secrets(world);
    assert!(output.signal().is_none(), "{what}: {output}");
    assert!(!output.stderr.contains("panicked"), "{what}: {output}");
    for (stream, text) in [("stdout", &output.stdout_bytes), ("stderr", &output.stderr.clone().into_bytes())]
    {
        let found = find(&secrets, text);
        assert!(found.is_none(), "{what}: `{line}` shows a secret on {stream}: {found:?}\n{output}");
    }
}

/// Requires that no secret is in a file outside the places for them.
fn assert_holds_none(world: &Sandbox, what: &str) {
    let found = holding(world, &secrets(world));
    assert!(found.is_none(), "{what}: a file holds a secret: {found:?}");
}

/// Checks that a command has shown no secret, and that none is in a file outside the places for them.
#[cfg(target_os = "linux")]
pub(crate) fn shows_none(world: &Sandbox, output: &Output) -> Result<(), String> {
    let secrets = secrets(world);
    for text in [&output.stdout, &output.stderr] {
        if let Some(found) = find(&secrets, text.as_bytes()) {
            return Err(format!("it shows {found}"));
        }
    }
    match holding(world, &secrets) {
        Some((path, found)) => Err(format!("{} holds {found}", path.display())),
        None => Ok(()),
    }
}

/// Returns a file outside the places for secrets that holds one.
fn holding(world: &Sandbox, secrets: &[String]) -> Option<(PathBuf, String)> {
    files_below(world.root()).into_iter().find_map(|path| {
        let program = path.components().any(|part| part.as_os_str() == "bin");
        if program || may_hold(world, &path) || path.is_symlink() || !path.is_file() {
            return None;
        }
        let found = find(secrets, &fs::read(&path).ok()?)?.clone();
        Some((path, found))
    })
}

/// Watches the processes of the world until told to stop. Returns the arguments and environments that it saw.
fn watch(world: &Sandbox, stop: &AtomicBool) -> BTreeSet<Vec<u8>> {
    let mut seen = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        for process in world.processes() {
            for name in ["cmdline", "environ"] {
                seen.extend(fs::read(format!("/proc/{}/{name}", process.pid)));
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    seen
}

#[cfg(target_os = "linux")]
#[test]
fn move_shows_no_secret_of_the_window_and_the_pool() {
    let world = Lab::new(&["alice", "bob", "carol"], "");
    let stop = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        let watcher = scope.spawn(|| watch(&world, &stop));
        // What is in the environment of a window is in that of the server, which another server gets.
        let window = crate::moving::window_with(&world, &[("OPENAI_API_KEY", API_KEY)]);
        crate::moving::reach_limit(&world);
        crate::moving::goes_on(&world).expect("it goes on");
        drop(window);
        assert_holds_none(&world, "a move");
        drop(Stop(&stop));
        watcher.join().expect("the watcher")
    });
    let (environments, lines): (BTreeSet<_>, BTreeSet<_>) =
        seen.into_iter().partition(|text| find(&["\0HOME=".to_owned()], text).is_some());
    assert!(!lines.is_empty(), "nothing was seen");
    assert_shown_to_nobody(&world, lines);
    let secrets = world.backend().secrets();
    assert!(environments.iter().all(|text| find(&secrets, text).is_none()));
}

/// Returns what the service says when it repeats what it was sent. (The kit's refresh tokens are short, and look like
/// words to a program that was not sent them.)
fn echo(world: &Sandbox) -> Value {
    let mut secrets = world.backend().secrets();
    secrets.retain(|secret| secret.len() > 40);
    let secrets = secrets.join(" ");
    json!({"error": {"code": "bad", "message": format!("not this: {secrets}")}, "detail": secrets})
}

#[test]
fn commands_show_no_secret_whatever_goes_wrong() {
    let world = Lab::new(&["alice", "bob"], "min_poll_interval = \"0s\"\n");
    let backend = world.backend();
    backend.add("new");
    backend.add_api_key("robot", API_KEY);
    let given = |name: &str, text: &str| world.write_private(&world.work().join("given").join(name), text);
    let document = backend.auth_json("new");
    given("new.json", &document);
    given("broken.json", &document[..document.len() - 20]);
    given("odd.json", &document.replace("\"tokens\": {", "\"tokens\": 7, \"more\": {"));

    let stop = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        let watcher = scope.spawn(|| watch(&world, &stop));
        let again = || {
            world.reset(&LoginSpec::expires_in(20_000));
            world.write_live(&backend.auth_json_with("alice", &LoginSpec::expires_in(30_000)));
        };
        again();
        run_all(&world, "nothing is wrong");
        let echo = echo(&world);
        let faults = [
            Fault::Status(401, echo.clone()),
            Fault::Status(500, echo.clone()),
            Fault::Raw(200, Vec::new(), echo.to_string().into_bytes()),
            Fault::Redirect(format!("{}/elsewhere", backend.url())),
            Fault::LostAnswer,
        ];
        for fault in faults {
            again();
            for route in [Route::Token, Route::Usage] {
                backend.inject(route, fault.clone());
            }
            run_all(&world, &format!("{fault:?}"));
            backend.clear_faults();
        }
        // The documents themselves are broken: the pool's in the middle, the live one at its end.
        again();
        let stored = world.document("bob");
        world.store("bob", &stored.replace("\"refresh_token\": \"", "\"refresh_token\": 7 \""));
        let live = world.live().expect("a login");
        world.write_live(&live[..live.len() - 3]);
        run_all(&world, "broken documents");
        again();
        let file = world.pool_home().join("state.json");
        world.write_private(&file, "{\"version\": 1, \"homes\": 5}");
        world.write_live(&api_key_json(API_KEY));
        run_all(&world, "an API key is live");
        drop(Stop(&stop));
        watcher.join().expect("the watcher")
    });
    assert!(seen.len() > 20, "the watcher saw only {} things", seen.len());
    assert_shown_to_nobody(&world, seen);
}

#[test]
fn attendant_shows_no_secret_whatever_goes_wrong() {
    let settings = "min_poll_interval = \"0s\"\n";
    let world = Lab::new(&["alice", "bob"], settings);
    let backend = world.backend();
    let stop = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        let watcher = scope.spawn(|| watch(&world, &stop));
        let faults = |echo: Value| {
            [
                None,
                Some(Fault::Status(401, echo.clone())),
                Some(Fault::Status(500, echo)),
                Some(Fault::LostAnswer),
            ]
        };
        for fault in faults(echo(&world)) {
            let what = format!("{fault:?}");
            // Both are due for a renewal, and usage for a request.
            world.reset(&LoginSpec::expires_in(20_000));
            world.usage_of_age(400);
            let session = world.hold(world.exec_as("alice"));
            for route in [Route::Token, Route::Usage] {
                fault.iter().for_each(|fault| backend.inject(route, fault.clone()));
            }
            world.settings(settings);
            let before = world.document("alice");
            // Newer than an answer to a renewal that an attendant of the session makes meanwhile.
            let newer = LoginSpec { issued_ago: Some(-60), ..LoginSpec::expires_in(30_000) };
            world.write_live(&backend.auth_json_with("alice", &newer));
            let attendant = world.pool(&["attend"]).spawn();
            backend.wait_for("a request", SOON, |report| !report.requests.is_empty());
            wait_until("the login in the home to be taken in", SOON, || world.document("alice") != before);
            world.settings(&format!("{settings}attend = false\n"));
            let output = attendant.wait().ok();
            backend.clear_faults();
            drop(session);
            world.wait_until_quiet();
            assert_says_none(&world, &what, "codex-pool attend", &output);
            assert_holds_none(&world, &what);
        }
        drop(Stop(&stop));
        watcher.join().expect("the watcher")
    });
    let attends = |text: &&Vec<u8>| text.windows(7).any(|part| part == b"attend\0");
    assert!(seen.iter().any(|text| attends(&text)), "the watcher has not seen it");
    assert_shown_to_nobody(&world, seen);
}

/// Requires that no secret was among the arguments and environments that were seen.
fn assert_shown_to_nobody(world: &Sandbox, seen: BTreeSet<Vec<u8>>) {
    let secrets = secrets(world);
    for text in seen {
        let found = find(&secrets, &text);
        assert!(found.is_none(), "{found:?} in {}", String::from_utf8_lossy(&text));
    }
}

/// Runs `codex-pool add` with these words and this text on stdin, as `codex` that program of the sandbox's if one is
/// named, and requires that exit status and that nothing is seen or left.
fn add(world: &Sandbox, what: &str, words: &[&str], input: &[u8], codex: Option<&Path>, status: i32) {
    let mut cmd = world.pool(&[&["add"], words].concat()).stdin(input).timeout(Duration::from_secs(90));
    if let Some(codex) = codex {
        cmd = cmd.env("CODEX_POOL_CODEX", codex);
    }
    let output = cmd.run();
    assert_eq!(output.code(), Some(status), "{what}: {output}");
    assert_added(world, what, &output);
}

fn assert_added(world: &Sandbox, what: &str, output: &Output) {
    assert_says_none(world, what, "codex-pool add", output);
    assert_holds_none(world, what);
    assert!(world.login_homes().is_empty(), "{what}: the login home is left: {output}");
}

/// Returns a program in Codex's place.
fn script(world: &Sandbox, name: &str, text: &str) -> PathBuf {
    write_script(&world.work().join(name), text)
}

#[test]
fn add_shows_no_secret_however_it_ends() {
    let world = Lab::new(&["alice"], "");
    let backend = world.backend();
    backend.add("new");
    backend.add_api_key("robot", API_KEY);
    let document = backend.auth_json("new");
    let stop = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        let watcher = scope.spawn(|| watch(&world, &stop));
        logins_that_fail(&world);
        documents_of_no_use(&world, &document);
        keys_on_stdin(&world);
        drop(Stop(&stop));
        watcher.join().expect("the watcher")
    });
    assert!(seen.len() > 10, "the watcher saw only {} things", seen.len());
    assert_shown_to_nobody(&world, seen);
}

/// Words for a login at the stand-in service.
fn at_service(world: &Sandbox) -> [String; 4] {
    ["--device-auth", "--", "--experimental_issuer", &world.backend().url()].map(str::to_owned)
}

/// Logins that the service refuses with all that it was sent, that are cancelled, or that the pool cannot take in.
fn logins_that_fail(world: &Lab) {
    let backend = world.backend();
    let words = at_service(world);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    for route in [Route::DeviceToken, Route::Token] {
        backend.inject(route, Fault::Raw(401, Vec::new(), echo(world).to_string().into_bytes()));
        backend.approve_login("new");
        add(world, &format!("{route:?} refused"), &words, b"", None, 1);
        backend.clear_faults();
        backend.forget_approvals();
    }
    let start = || {
        let before = backend.pending_logins();
        let login = world.pool(&[&["add"], words.as_slice()].concat()).spawn();
        wait_until("a login that waits", SOON, || backend.pending_logins() > before);
        login
    };
    let login = start();
    login.signal(Signal::SIGTERM);
    assert_added(world, "cancelled", &login.wait().expect(1));
    let login = start();
    let lock = testkit::files::lock(&world.pool_home().join("pool.lock"));
    backend.approve_login("new");
    let output = login.wait().expect(1);
    drop(lock);
    assert_added(world, "the pool is locked", &output);
    backend.forget_approvals();
}

/// Codex leaves a document that is cut, of an unknown kind or shape, or a whole login although it failed.
fn documents_of_no_use(world: &Lab, document: &str) {
    let cut = &document[..document.len() - 20];
    let odd = document.replace("\"tokens\": {", "\"tokens\": 7, \"more\": {");
    let list = json!({"OPENAI_API_KEY": [API_KEY]}).to_string();
    let unknown = json!({"auth_mode": API_KEY, "agent_identity": {"key": API_KEY}}).to_string();
    let nul = format!("{API_KEY}\0{document}");
    let claims = document.replace('.', "!");
    assert_ne!(claims, document);
    for (what, text) in [
        ("cut", cut),
        ("odd", &odd),
        ("a list", &list),
        ("unknown", &unknown),
        ("with NUL", &nul),
        ("with broken claims", &claims),
    ] {
        let given = world.work().join("given/document");
        world.write_private(&given, text);
        let copy = format!("cp '{}' \"$CODEX_HOME/auth.json\"", given.display());
        add(world, what, &[], b"", Some(&script(world, "codex-ends", &copy)), 1);
        let copy = format!("{copy}; exit 3");
        add(world, &format!("{what}, and failed"), &[], b"", Some(&script(world, "codex-fails", &copy)), 1);
    }
}

/// A key with blanks around it, twice, in bytes that are no text, for a Codex that fails, that takes none, and that is
/// missing.
fn keys_on_stdin(world: &Lab) {
    let key = API_KEY;
    let words = ["--with-api-key"];
    let add_key = |what: &str, input: &[u8], codex: Option<&Path>, status: i32| {
        add(world, what, &words, input, codex, status);
    };
    add_key("two keys", format!("{key} {key}").as_bytes(), None, 1);
    add_key("two lines", format!("{key}\n{key}\n").as_bytes(), None, 1);
    add_key("no text", &[key.as_bytes(), b"\xff"].concat(), None, 1);
    add_key("with NUL", format!("{key}\0").as_bytes(), None, 1);
    add_key("blanks around it", format!(" \t{key}\r\n\n").as_bytes(), None, 0);
    let knows = "case \"$*\" in *--help*) echo --with-api-key; exit;; esac";
    let fails = script(world, "codex-fails", &format!("{knows}; cat >/dev/null; exit 1"));
    add_key("Codex fails", key.as_bytes(), Some(&fails), 1);
    let deaf = script(world, "codex-deaf", &format!("{knows}; exec <&-; exit 1"));
    add_key("Codex does not read it", key.as_bytes(), Some(&deaf), 1);
    let old = script(world, "codex-old", "exit 1");
    add_key("Codex takes no keys", key.as_bytes(), Some(&old), 0);
    add(world, "a label that is taken", &["--with-api-key", "--label", "alice"], key.as_bytes(), None, 1);
    let missing = Sandbox::builder().codex(Codex::Missing).backend(world.backend()).build();
    add(&missing, "no Codex", &words, key.as_bytes(), None, 1);
    add(&missing, "no Codex, no key", &[], b"", None, 1);
}
