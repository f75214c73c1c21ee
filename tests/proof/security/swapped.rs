//! Links that come and go while launches run: the live file, a home's file, a home and `lost+found/` keep changing
//! places with links to another user's files.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::json;
use testkit::backend::LoginSpec;
use testkit::files::{files_below, give, set_mode};
use testkit::{Cmd, Output, Running, is_root, leave_out, now};

use super::Stop;
use crate::lab::Lab;

/// Who runs Codex, and who must not be harmed, where the test is root and can be both.
const USER: u32 = testkit::NOBODY;
const OTHER: u32 = 4243;

/// How many launches each test makes.
const LAUNCHES: usize = 40;

/// What the other user's files hold.
const THEIRS: &str = "the words of another user";

/// What is put at the live file's place, so that `lost+found/` is written.
const BROKEN: &str = "{\"tokens\": {";

/// Files of another user, which Codex's user can neither read nor write. Root gives them another owner; without root
/// their modes forbid it.
struct Victim {
    folder: PathBuf,
    file: PathBuf,
}

impl Victim {
    fn new(world: &Lab) -> Victim {
        let folder = world.root().join("theirs");
        let file = folder.join("auth.json");
        fs::create_dir(&folder).expect("make their folder");
        fs::write(&file, THEIRS).expect("write their file");
        let (mode, dir_mode) = if is_root() { (0o600, 0o755) } else { (0o000, 0o555) };
        set_mode(&file, mode);
        set_mode(&folder, dir_mode);
        if is_root() {
            chown(&file, Some(OTHER), Some(OTHER)).expect("chown");
            chown(&folder, Some(OTHER), Some(OTHER)).expect("chown");
        }
        Victim { folder, file }
    }

    /// Requires that the files are unchanged and were not copied.
    fn assert_unharmed(&self, world: &Lab) {
        let names: Vec<_> = fs::read_dir(&self.folder).expect("their folder").flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        set_mode(&self.file, 0o600);
        assert_eq!(fs::read_to_string(&self.file).expect("their file"), THEIRS);
        for path in [files_below(&world.pool_home()), files_below(&world.codex_home())].concat() {
            if path.is_symlink() || !path.is_file() {
                continue;
            }
            let bytes = fs::read(&path).expect("a file");
            let copied = bytes.windows(THEIRS.len()).any(|part| part == THEIRS.as_bytes());
            assert!(!copied, "{} holds what is another user's", path.display());
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // So that the world can be removed.
        let _ = fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o755));
    }
}

/// Something that changes places with a link.
struct Place {
    at: PathBuf,
    aside: PathBuf,
    target: PathBuf,
}

impl Place {
    fn is_link(&self, path: &Path) -> bool {
        fs::read_link(path).is_ok_and(|to| to == self.target)
    }

    fn exchange(&self) -> bool {
        renameat2(AT_FDCWD, &self.at, AT_FDCWD, &self.aside, RenameFlags::RENAME_EXCHANGE).is_ok()
    }

    /// Has the link ready.
    fn prepare(&self) {
        if !self.is_link(&self.aside) {
            let _ = fs::remove_file(&self.aside);
            symlink(&self.target, &self.aside).expect("make a link");
            if is_root() {
                lchown(&self.aside, Some(USER), Some(USER)).expect("give it away");
            }
        }
    }

    /// Puts the link there, and back what was there, unless it has been replaced meanwhile.
    fn swap_and_back(&self) -> bool {
        self.prepare();
        if !self.exchange() {
            return false;
        }
        std::thread::yield_now();
        self.put_back();
        true
    }

    fn put_back(&self) {
        if self.is_link(&self.at) {
            self.exchange();
            if !self.is_link(&self.aside) {
                // Replaced at the last moment: what came last stays.
                self.exchange();
            }
        }
    }
}

/// Swaps until told to stop; how often.
fn attack(places: &[Place], stop: &AtomicBool) -> usize {
    let mut swaps = 0;
    while !stop.load(Ordering::Relaxed) {
        swaps += places.iter().filter(|place| place.swap_and_back()).count();
    }
    swaps
}

/// As the user, not as root.
fn as_user(mut cmd: Cmd) -> Cmd {
    if is_root() {
        cmd.inner().uid(USER).gid(USER);
    }
    cmd
}

fn world() -> Lab {
    let world = Lab::new(&["alice", "bob"], "background_refresh = false\n");
    world.reset(&LoginSpec::default());
    world.write_live(&world.document("alice"));
    let kept = world.pool_home().join("lost+found");
    fs::create_dir(&kept).expect("make lost+found");
    set_mode(&kept, 0o700);
    if is_root() {
        give(world.root(), USER);
    }
    world
}

/// Says that this account alone has something left.
fn only_has_room(world: &Lab, name: &str) {
    let window =
        |used: u32| json!({"window_seconds": 18_000, "used_percent": used, "resets_at": now() + 3600});
    let accounts = world.ids.iter().map(|(of, id)| {
        let window = window(if of == name { 5 } else { 100 });
        (id.clone(), json!({"usage": {"fetched_at": now(), "source": "api", "windows": [window]}}))
    });
    let cache = json!({"version": 1, "accounts": accounts.collect::<serde_json::Map<_, _>>()});
    replace(world, &world.pool_home().join("usage.json"), cache.to_string().as_bytes(), SystemTime::now());
}

/// Puts a file in place by rename, as old as that, following no link.
fn replace(world: &Lab, path: &Path, bytes: &[u8], modified: SystemTime) {
    let new = world.root().join("new");
    let mut file = File::create(&new).expect("make a file");
    file.write_all(bytes).expect("write it");
    file.set_modified(modified).expect("date it");
    set_mode(&new, 0o600);
    if is_root() {
        chown(&new, Some(USER), Some(USER)).expect("chown");
    }
    fs::rename(new, path).expect("put it there");
}

/// Requires that Codex has run: it answered, or complained itself of what it found.
fn started(output: &Output) {
    let answered = output.code() == Some(0) && output.stdout.starts_with("hello from ");
    let complained = output.code() == Some(1) && output.stderr.contains("ERROR: ");
    assert!(answered || complained, "Codex did not start: {output}");
}

/// Requires that everything is in order once the attack has ended.
fn assert_healed(world: &Lab) {
    for name in ["alice", "bob", "alice"] {
        let output = as_user(world.exec()).env("CODEX_POOL_ACCOUNT", name).run().ok();
        assert_eq!(output.stdout.trim_end(), format!("hello from {name}"), "{output}");
    }
    world.wait_until_quiet();
    let kept = world.pool_home().join("lost+found");
    for path in files_below(&kept) {
        if fs::read(&path).is_ok_and(|bytes| bytes == BROKEN.as_bytes()) {
            fs::remove_file(path).expect("remove what was planted");
        }
    }
    assert_eq!(world.lost(), [""; 0]);
    assert_eq!(world.breaches(), [""; 0]);
    assert_eq!(world.breaches_at_rest(), [""; 0]);
}

/// Launches of the user one after the other, while these places keep changing.
fn launch_under_attack(world: &Lab, places: &[Place], before: impl Fn(usize)) {
    launches_under_attack(world, places, as_user, before);
}

/// The same with commands that `actor` changes.
fn launches_under_attack(world: &Lab, places: &[Place], actor: impl Fn(Cmd) -> Cmd, before: impl Fn(usize)) {
    let stop = AtomicBool::new(false);
    let swaps = std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        let attacker = scope.spawn(|| attack(places, &stop));
        for turn in 0..LAUNCHES {
            before(turn);
            started(&actor(world.exec()).timeout(Duration::from_secs(30)).run());
        }
        drop(Stop(&stop));
        attacker.join().expect("the attacker")
    });
    assert!(swaps >= places.len(), "nothing was swapped");
}

/// Returns a session of alice's in the main home, which ends when the gate is there, and the file of bob's home beside
/// it.
fn session_and_home(world: &Lab) -> (Running, PathBuf) {
    only_has_room(world, "alice");
    let session = world.hold(as_user(world.exec()));
    only_has_room(world, "bob");
    as_user(world.exec()).run().ok().says("hello from bob");
    let homes = files_below(&world.pool_home().join("homes"));
    (session, homes.into_iter().find(|path| path.ends_with("auth.json")).expect("bob's home"))
}

#[test]
fn links_that_come_and_go_in_the_main_home_do_no_harm() {
    let world = world();
    let victim = Victim::new(&world);
    let live = world.codex_home().join("auth.json");
    let places = [(live.clone(), &victim.file), (world.pool_home().join("lost+found"), &victim.folder)];
    let places = places.map(|(at, target)| {
        let aside = world.root().join(format!("aside-{}", at.file_name().expect("a name").display()));
        Place { at, aside, target: target.clone() }
    });
    launch_under_attack(&world, &places, |turn| {
        only_has_room(&world, ["alice", "bob"][turn % 2]);
        if turn % 3 == 0 {
            replace(&world, &live, BROKEN.as_bytes(), SystemTime::now() - Duration::from_secs(60));
        }
    });
    victim.assert_unharmed(&world);
    assert_healed(&world);
}

#[test]
fn links_that_come_and_go_in_an_own_home_do_no_harm() {
    let world = world();
    let victim = Victim::new(&world);
    let (session, file) = session_and_home(&world);
    let home = file.parent().expect("a folder").to_owned();
    let places = [
        (file, &victim.file),
        (home, &victim.folder),
        (world.codex_home().join("auth.json"), &victim.file),
        (world.pool_home().join("lost+found"), &victim.folder),
    ];
    let mut names = 0..;
    let places = places.map(|(at, target)| {
        let aside = world.root().join(format!("aside-{}", names.next().unwrap_or(0)));
        Place { at, aside, target: target.clone() }
    });
    launch_under_attack(&world, &places, |_| only_has_room(&world, "bob"));
    world.open_gate();
    session.wait().ok().says("hello from alice");
    victim.assert_unharmed(&world);
    assert_healed(&world);
}

/// `sudo codex`: no permission keeps root from the targets of the user's links, so the programs must.
#[test]
fn root_is_not_led_to_others_files_by_the_links_of_a_user() {
    if !is_root() {
        return leave_out("only root can act in the place of `sudo codex`");
    }
    let world = world();
    let victim = Victim::new(&world);
    let live = world.codex_home().join("auth.json");
    let break_it = || replace(&world, &live, BROKEN.as_bytes(), SystemTime::now() - Duration::from_secs(60));
    // Old enough that it cannot be being written.
    let theirs = File::open(&victim.file).expect("their file");
    theirs.set_modified(SystemTime::now() - Duration::from_secs(60)).expect("date it");
    let place = |at: &Path, target: &Path| Place {
        at: at.to_owned(),
        aside: world.root().join("aside"),
        target: target.to_owned(),
    };
    let swapped = [place(&live, &victim.file)];
    launches_under_attack(
        &world,
        &swapped,
        |cmd| cmd,
        |turn| {
            only_has_room(&world, ["alice", "bob"][turn % 2]);
            if turn % 3 == 0 {
                break_it();
            }
        },
    );
    victim.assert_unharmed(&world);
    assert_healed(&world);

    let (session, file) = session_and_home(&world);
    let places = [
        place(&file, &victim.file),
        place(file.parent().expect("a folder"), &victim.folder),
        place(&world.stored_path("bob"), &victim.file),
    ];
    for place in &places {
        place.prepare();
        assert!(place.exchange(), "{}", place.at.display());
        started(&world.exec().run());
        place.put_back();
        victim.assert_unharmed(&world);
    }
    world.open_gate();
    session.wait().ok().says("hello from alice");
    let kept = place(&world.pool_home().join("lost+found"), &victim.folder);
    kept.prepare();
    assert!(kept.exchange());
    break_it();
    started(&world.exec().run());
    kept.put_back();
    victim.assert_unharmed(&world);
    assert_healed(&world);
}
