//! Permissions under any umask, and files that others plant in the folders that the programs write in.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::backend::LoginSpec;
use testkit::files::{files_below, mode, set_mode};
use testkit::{Codex, Sandbox};

use crate::lab::Lab;

fn folders_below(dir: &Path) -> Vec<PathBuf> {
    let inner = fs::read_dir(dir).into_iter().flatten().flatten();
    let inner = inner.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path());
    inner.flat_map(|dir| [vec![dir.clone()], folders_below(&dir)].concat()).collect()
}

#[test]
fn files_are_private_under_any_umask() {
    for umask in ["000", "022", "077", "777"] {
        let sandbox = Sandbox::new();
        let run = |words: &str, input: &str| {
            let script = format!("umask {umask}; exec {words}");
            sandbox.cmd("/bin/sh").args(["-c", &script]).stdin(input).run()
        };
        let backend = sandbox.backend();
        for name in ["alice", "bob"] {
            backend.add(name);
            let document = backend.auth_json_with(name, &LoginSpec::expires_in(20_000));
            run(&format!("codex-pool import - --label {name}"), &document).ok();
        }
        run("codex-pool refresh", "").ok();
        let answer = run("codex exec --skip-git-repo-check hi", "").ok();
        assert!(answer.stdout.starts_with("hello from"), "{answer}");
        run("codex-pool use alice", "").ok();
        run("codex-pool export bob --out out.json", "").ok();
        // `bin` is the kit's.
        let pool = sandbox.pool_home();
        let mut files = files_below(&pool);
        files.retain(|path| !path.starts_with(pool.join("bin")));
        files.extend([sandbox.codex_home().join("auth.json"), sandbox.work().join("out.json")]);
        assert!(files.len() > 6, "{files:?}");
        for path in files {
            assert_eq!(mode(&path), 0o600, "umask {umask}: {}", path.display());
        }
        for dir in [vec![pool.clone()], folders_below(&pool)].concat() {
            if !dir.starts_with(pool.join("bin")) {
                assert_eq!(mode(&dir), 0o700, "umask {umask}: {}", dir.display());
            }
        }
    }
}

/// Returns a world and a victim: a file that must stay as it is.
fn with_victim() -> (Lab, PathBuf) {
    let world = Lab::new(&["alice", "bob"], "min_poll_interval = \"0s\"\n");
    world.reset(&LoginSpec::expires_in(20_000));
    let victim = world.root().join("victim");
    fs::write(&victim, "untouched").expect("write the victim");
    (world, victim)
}

fn all_commands(world: &Lab) {
    world.exec().run();
    world.pool(&["refresh"]).run();
    world.pool(&["use", "bob"]).run();
    world.pool(&["list"]).run();
    world.pool(&["doctor", "--fix"]).run();
    world.exec_as("alice").run();
}

#[test]
fn links_planted_in_the_pool_are_replaced_and_never_written_through() {
    let (world, victim) = with_victim();
    let pool = world.pool_home();
    let stored = world.stored_path("alice");
    let names = [
        "state.json",
        "usage.json",
        "accounts.json",
        ".state.json.codex-pool.tmp",
        ".usage.json.codex-pool.tmp",
        ".accounts.json.codex-pool.tmp",
    ];
    let mut places: Vec<PathBuf> = names.iter().map(|name| pool.join(name)).collect();
    let temporary = |path: &Path| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        path.with_file_name(format!(".{name}.codex-pool.tmp"))
    };
    places.extend([stored.clone(), temporary(&stored), temporary(&world.codex_home().join("auth.json"))]);
    places.extend([pool.join("pool.lock"), pool.join("refresh.lock")]);
    for link in [symlink::<&Path, &Path>, |to: &Path, at: &Path| fs::hard_link(to, at)] {
        for place in &places {
            world.reset(&LoginSpec::expires_in(20_000));
            let _ = fs::remove_file(place);
            link(&victim, place).unwrap_or_else(|e| panic!("plant {}: {e}", place.display()));
            all_commands(&world);
            let now = fs::read_to_string(&victim).expect("the victim");
            assert_eq!(now, "untouched", "written through {}", place.display());
            assert_eq!(world.backend().report().violations, [], "{}", place.display());
        }
    }
}

/// A hard link to the live file keeps its content: it never becomes another account's.
#[test]
fn hard_link_to_the_live_login_does_not_get_other_accounts() {
    let (world, _) = with_victim();
    let mine = world.backend().auth_json("alice");
    world.write_live(&mine);
    let other = world.root().join("other-name");
    fs::hard_link(world.codex_home().join("auth.json"), &other).expect("link");
    world.pool(&["use", "bob"]).run().ok();
    assert_eq!(world.backend().owner(&world.live().expect("a login")).as_deref(), Some("bob"));
    assert_eq!(fs::read_to_string(&other).expect("text"), mine);
}

/// A user who may write in the folder above the pool can put another pool there. What is in this one stays closed.
#[test]
fn world_writable_parent_opens_nothing() {
    let (world, _) = with_victim();
    set_mode(world.home(), 0o777);
    all_commands(&world);
    assert_eq!(mode(&world.pool_home()), 0o700);
    for path in world.documents() {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn pool_that_others_can_read_is_closed_again() {
    let (world, _) = with_victim();
    let stored = world.stored_path("alice");
    set_mode(&stored, 0o644);
    set_mode(&world.pool_home(), 0o755);
    let doctor = world.pool(&["doctor"]).run();
    assert_ne!(doctor.code(), Some(0), "{doctor}");
    world.pool(&["doctor", "--fix"]).run();
    assert_eq!((mode(&stored), mode(&world.pool_home())), (0o600, 0o700));
}

/// Pipes without a writer, devices that never end, and files of a terabyte: none may hold up a launch.
#[test]
fn odd_files_delay_no_launch() {
    let world = Lab::with(Codex::Probe, &["alice", "bob"], "");
    let pool = world.pool_home();
    let names = ["accounts.json", "state.json", "usage.json", "config.toml", "launches/odd"];
    let mut places: Vec<PathBuf> = names.iter().map(|name| pool.join(name)).collect();
    places.extend([world.stored_path("alice"), world.codex_home().join("auth.json")]);
    let pipe = |at: &Path| {
        nix::unistd::mkfifo(at, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("make a pipe");
    };
    let device = |at: &Path| symlink("/dev/zero", at).expect("link a device");
    let giant = |at: &Path| File::create(at).and_then(|f| f.set_len(1 << 40)).expect("make a giant");
    let folder = |at: &Path| fs::create_dir(at).expect("make a folder");
    type Plant<'a> = (&'a str, &'a dyn Fn(&Path));
    let plants: [Plant<'_>; 4] =
        [("pipe", &pipe), ("device", &device), ("giant", &giant), ("folder", &folder)];
    for (what, plant) in plants {
        for place in &places {
            world.reset(&LoginSpec::default());
            fs::create_dir_all(place.parent().expect("a folder")).expect("make a folder");
            let _ = fs::remove_file(place);
            plant(place);
            for words in [["exec", "hi"].as_slice(), &["list"], &["why"], &["doctor"], &["use", "bob"]] {
                let cmd = if words[0] == "exec" { world.codex(words) } else { world.pool(words) };
                let output = cmd.timeout(Duration::from_secs(30)).run();
                let context = format!("{what} at {}", place.display());
                assert!(
                    output.signal().is_none() && !output.stderr.contains("panicked"),
                    "{context}: {output}"
                );
                assert!(words[0] != "exec" || output.code() == Some(0), "{context}: {output}");
                let peak = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN);
                let peak = peak.expect("usage").max_rss();
                assert!(peak < 600_000, "{context}: {peak} KiB of memory");
            }
            let planted = fs::symlink_metadata(place).is_ok_and(|m| m.is_dir() || m.nlink() > 0);
            let _ = if planted && place.is_dir() { fs::remove_dir(place) } else { fs::remove_file(place) };
            world.write_private(&pool.join("config.toml"), "");
        }
    }
}
