use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::*;
use crate::ledger;

/// A pool, and how long an attendant of it waits.
struct Lab {
    dir: tempfile::TempDir,
    paths: PoolPaths,
    pace: Pace,
}

impl Lab {
    fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let paths = PoolPaths::new(dir.path().join("pool"));
        fs::create_dir(paths.root()).unwrap();
        let pace = Pace {
            tick: Duration::from_millis(1),
            linger: Duration::ZERO,
            // A child that another test just starts has the lock for a moment, too.
            lock_wait: Duration::from_secs(1),
        };
        Lab { dir, paths, pace }
    }

    fn lock_path(&self) -> PathBuf {
        let me = ProcessId::of_self().unwrap();
        self.paths.attend_lock(&me.boot, me.pid_namespace)
    }

    /// Runs an attendant with a duty that gets the number of the tick. Returns why it ended, and after how many ticks.
    fn run(&self, duty: impl FnMut(u32, &View<'_>)) -> (End, u32) {
        let ticks = Arc::new(Mutex::new(0));
        let probe = Probe { ticks: Arc::clone(&ticks), duty };
        let env = Env::of(&[], self.dir.path(), 0);
        let end = run_duties(&env, &self.paths, &self.pace, vec![Box::new(probe)]).unwrap();
        let ticks = *ticks.lock().unwrap();
        (end, ticks)
    }

    fn record(&self, process: &ProcessId) {
        let entry = LaunchEntry {
            account: None,
            home: format!("{}/.codex/auth.json", self.dir.path().display()),
            cwd: None,
            folders: Vec::new(),
            started_at: env::clock(),
            command: "codex".into(),
            kind: ledger::LaunchKind::Session,
            attached: false,
            stays: false,
            env: std::collections::BTreeMap::new(),
        };
        ledger::record(&self.paths, process, &entry).unwrap();
    }
}

struct Probe<F> {
    ticks: Arc<Mutex<u32>>,
    duty: F,
}

impl<F: FnMut(u32, &View<'_>)> Duty for Probe<F> {
    fn tick(&mut self, view: &View<'_>) -> Result<()> {
        let mut ticks = self.ticks.lock().unwrap();
        *ticks += 1;
        assert!(*ticks < 2000, "it does not end");
        (self.duty)(*ticks, view);
        Ok(())
    }
}

#[test]
fn it_ends_after_the_last_launch_and_not_before() {
    let lab = Lab::new();
    assert_eq!(lab.run(|_, view| assert!(view.launches.is_empty())), (End::NothingLeft, 1));
    let me = ProcessId::of_self().unwrap();
    lab.record(&me);
    let (mut began, mut ended) = (0, 0);
    let end = lab.run(|tick, view| {
        began += u32::from(view.began);
        ended += view.ended.len();
        assert_eq!(view.homes.len(), usize::from(tick <= 5));
        if tick == 5 {
            ledger::remove(&lab.paths, &me);
        }
    });
    assert_eq!((end, began, ended), ((End::NothingLeft, 6), 1, 1));
}

#[test]
fn a_launch_that_comes_at_the_last_moment_is_looked_after() {
    let lab = Lab::new();
    let me = ProcessId::of_self().unwrap();
    let mut seen = 0;
    let (end, ticks) = lab.run(|tick, view| {
        seen += view.launches.len();
        match tick {
            // It is looked for before this, and found only by the reading after the unlock.
            1 => lab.record(&me),
            _ => ledger::remove(&lab.paths, &me),
        }
    });
    assert_eq!((end, ticks, seen), (End::NothingLeft, 3, 1));
}

#[test]
fn launches_at_any_moment_are_looked_after() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let lab = Lab::new();
    let me = ProcessId::of_self().unwrap();
    let (round, seen, running) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let attend = || {
        let look = |_: u32, view: &View<'_>| {
            if !view.launches.is_empty() {
                seen.store(round.load(Ordering::SeqCst), Ordering::SeqCst);
            } else {
                // The time between the look and the end is long enough to be met.
                std::thread::sleep(Duration::from_micros(500));
            }
        };
        let probe = Probe { ticks: Arc::new(Mutex::new(0)), duty: look };
        let env = Env::of(&[], lab.dir.path(), 0);
        run_duties(&env, &lab.paths, &lab.pace, vec![Box::new(probe)]).unwrap();
        running.fetch_sub(1, Ordering::SeqCst);
    };
    std::thread::scope(|scope| {
        for number in 1..=400 {
            // It comes while an attendant looks, ends, or has ended.
            std::thread::sleep(Duration::from_micros(u64::from(number) * 37 % 2_500));
            round.store(number, Ordering::SeqCst);
            lab.record(&me);
            // As a launch does. Where none runs, it is only a child of another test that holds the lock.
            let none = running.load(Ordering::SeqCst) == 0;
            if none || !is_locked(&lab.lock_path()) {
                running.fetch_add(1, Ordering::SeqCst);
                scope.spawn(attend);
            }
            let until = Instant::now() + Duration::from_secs(20);
            while seen.load(Ordering::SeqCst) != number {
                assert!(Instant::now() < until, "launch {number} is not looked after");
                std::thread::yield_now();
            }
            ledger::remove(&lab.paths, &me);
        }
    });
}

#[test]
fn only_its_own_boot_and_pid_namespace_count() {
    let lab = Lab::new();
    let me = ProcessId::of_self().unwrap();
    lab.record(&ProcessId { pid_namespace: me.pid_namespace + 1, ..me.clone() });
    lab.record(&ProcessId { boot: "0".repeat(32), ..me.clone() });
    let end = lab.run(|_, view| assert!(view.launches.is_empty() && view.ended.is_empty()));
    assert_eq!(end, (End::NothingLeft, 1));
    // A launch that has ended is told once, though its entry stays.
    lab.record(&ProcessId { start_ticks: me.start_ticks.wrapping_sub(1), ..me });
    let (mut ended, mut began) = (0, 0);
    lab.run(|_, view| {
        ended += view.ended.len();
        began += u32::from(view.began);
    });
    assert_eq!((ended, began), (1, 1));
}

#[test]
fn there_is_one() {
    let lab = Lab::new();
    let held = AttendLock::acquire(&lab.lock_path(), Duration::ZERO).unwrap().expect("free");
    assert_eq!(lab.run(|_, _| {}), (End::Another, 0));
    assert!(is_locked(&lab.lock_path()));
    drop(held);
    // A child that another test just starts has the lock for a moment.
    let until = Instant::now() + Duration::from_secs(60);
    while is_locked(&lab.lock_path()) {
        assert!(Instant::now() < until);
        std::thread::yield_now();
    }
    assert_eq!(lab.run(|_, _| assert!(is_locked(&lab.lock_path()))), (End::NothingLeft, 1));
}

#[test]
fn process_that_can_only_read_the_lock_does_not_keep_the_attendant_out() {
    let lab = Lab::new();
    fs::write(lab.lock_path(), "").unwrap();
    let reader = fs::File::open(lab.lock_path()).unwrap();
    fs2::FileExt::lock_exclusive(&reader).unwrap();
    assert!(crate::files::record_lock::try_read_lock(&reader).unwrap());
    assert!(!is_locked(&lab.lock_path()));
    assert_eq!(lab.run(|_, _| assert!(is_locked(&lab.lock_path()))), (End::NothingLeft, 1));
}

fn is_locked(path: &Path) -> bool {
    crate::files::is_locked(path).unwrap()
}

#[test]
fn it_ends_without_its_lock_file_or_the_pool_and_makes_neither() {
    let lab = Lab::new();
    lab.record(&ProcessId::of_self().unwrap());
    assert_eq!(lab.run(|_, _| drop(fs::remove_file(lab.lock_path()))), (End::NoPool, 1));
    let replace = |_: u32, _: &View<'_>| {
        fs::remove_file(lab.lock_path()).unwrap();
        fs::write(lab.lock_path(), "").unwrap();
    };
    assert_eq!(lab.run(replace), (End::NoPool, 1));
    assert_eq!(lab.run(|_, _| fs::remove_dir_all(lab.paths.root()).unwrap()), (End::NoPool, 1));
    assert_eq!(lab.run(|_, _| {}), (End::NoPool, 0));
    assert!(!lab.paths.root().exists());
}

#[test]
fn a_pool_that_goes_away_is_not_made_again_by_its_lock() {
    let lab = Lab::new();
    assert!(logins::lock_soon(&lab.paths).is_err());
    assert!(fs::read_dir(lab.paths.root()).unwrap().next().is_none());
    fs::write(lab.paths.pool_lock(), "").unwrap();
    let held = logins::lock_soon(&lab.paths).unwrap().expect("free");
    assert!(logins::lock_soon(&lab.paths).unwrap().is_none());
    drop(held);
    fs::remove_dir_all(lab.paths.root()).unwrap();
    assert!(logins::lock_soon(&lab.paths).is_err() && !lab.paths.root().exists());
}

#[test]
fn home_that_cannot_be_written_keeps_no_other_from_being_taken_in() {
    use crate::auth_doc::tests::login;
    use crate::codex::lock_file;
    use crate::files::PoolLock;
    use crate::pool::Pool;
    use crate::shared::Role;

    let lab = Lab::new();
    let users = ["alice", "bob"];
    let homes = users.map(|user| {
        let dir = lab.dir.path().canonicalize().unwrap().join(user);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("auth.json"), login(user).doc().bytes()).unwrap();
        CodexHome::main(dir)
    });
    let lock = PoolLock::acquire(&lab.paths, Duration::ZERO).unwrap().expect("free");
    let mut pool = Pool::open(&lock, &lab.paths, 0).unwrap();
    pool.set_shared(Some(Role::Member));
    pool.commit(&lock).unwrap();
    drop(lock);
    let settings = Settings::default();
    let view = View {
        paths: &lab.paths,
        settings: &settings,
        launches: Vec::new(),
        homes: homes.to_vec(),
        ended: Vec::new(),
        began: false,
        now: 0,
    };
    // Whatever rights this test has, it cannot write what Codex has locked.
    let held = lock_file::take(&homes[0].dir().join("auth.lock"), Duration::ZERO).unwrap().expect("free");
    let mut duty = logins::Logins::new(Duration::ZERO);
    duty.tick(&view).unwrap();
    let written = || homes.each_ref().map(|home| fs::read(home.auth_json()).unwrap());
    let [alice, bob] = users.map(|user| login(user).doc());
    assert_eq!(written(), [alice.bytes(), bob.clone().access_only().bytes()]);
    let stored = |doc: &crate::auth_doc::AuthDoc| {
        Pool::peek(&lab.paths).unwrap().credentials().load(doc.id()).unwrap().expect("in the pool")
    };
    assert_eq!([stored(&alice).bytes(), stored(&bob).bytes()], [alice.bytes(), bob.bytes()]);
    drop(held);
    duty.tick(&view).unwrap();
    assert_eq!(written(), [&alice, &bob].map(|doc| doc.clone().access_only().bytes().to_vec()));
}

#[test]
fn it_ends_when_the_settings_turn_it_off() {
    let lab = Lab::new();
    lab.record(&ProcessId::of_self().unwrap());
    let end = lab.run(|tick, _| {
        if tick == 3 {
            fs::write(lab.paths.config(), "attend = false\n").unwrap();
        }
    });
    assert_eq!(end, (End::TurnedOff, 3));
}

#[test]
fn abandoned_locks_go_and_others_stay() {
    let lab = Lab::new();
    let (old, held, young) =
        (lab.paths.attend_lock("a", 1), lab.paths.attend_lock("b", 2), lab.paths.attend_lock("c", 3));
    for path in [&old, &held, &young] {
        fs::write(path, "").unwrap();
    }
    let lock = AttendLock::acquire(&held, Duration::ZERO).unwrap().expect("free");
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(13 * 3600);
    for path in [&old, &held] {
        fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
    }
    lab.run(|_, _| {});
    assert_eq!((old.exists(), held.exists(), young.exists()), (false, true, true));
    drop(lock);
}

#[test]
fn a_new_program_is_known_once_it_is_whole_and_a_missing_one_is_none() {
    let lab = Lab::new();
    let path = lab.dir.path().join("program");
    fs::write(&path, "one").unwrap();
    let mut binary = Binary::of(path.clone());
    assert!(!binary.was_replaced() && !binary.was_replaced());
    fs::remove_file(&path).unwrap();
    assert!(!binary.was_replaced() && !binary.was_replaced());
    fs::write(&path, "#!/nowhere\n").unwrap();
    fs::File::open(&path).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert!(!binary.was_replaced(), "it may still be written");
    assert!(binary.was_replaced());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    binary.was_replaced();
    binary.start_anew(&Env::of(&[], lab.dir.path(), 0));
    assert!(
        !binary.was_replaced() && !binary.was_replaced(),
        "one that cannot be started is not tried again"
    );
}
