//! Own homes: links for what is shared, and nothing moved over something.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use std::path::Path;

use super::codex_home::MAIN_HOME_FILE;
use super::*;
use crate::env::Env;

impl Lab {
    fn home(&self) -> CodexHome {
        self.main_home.own(&self.pool.paths, login("bob").doc().id())
    }

    fn update(&self, free: bool) {
        own_home::update(&self.lock, &self.pool.paths, &self.main_home, &self.home(), free, NOW).unwrap();
    }
}

#[test]
fn a_home_knows_its_main_home() {
    let lab = Lab::new();
    lab.update(true);
    let (paths, home) = (&lab.pool.paths, lab.home());
    assert_eq!(main_home_of(paths, home.dir()), Some(lab.main_home.dir().to_owned()));
    for other in [lab.main_home.dir(), paths.root(), paths.homes().as_path(), "/nowhere".as_ref()] {
        assert_eq!(main_home_of(paths, other), None, "{}", other.display());
    }
}

#[test]
fn over_an_unused_main_home_everything_shared_leads_there() {
    let lab = Lab::new();
    fs::remove_dir(lab.main_home.dir()).unwrap();
    lab.update(true);
    for shared in ["sessions", "archived_sessions", "config.toml", "history.jsonl", "thread-writer-locks"] {
        assert_eq!(fs::read_link(lab.home().dir().join(shared)).unwrap(), lab.main_home.dir().join(shared));
    }
    // Codex creates a file through its dangling link.
    fs::write(lab.home().dir().join("history.jsonl"), "one").unwrap();
    assert_eq!(fs::read(lab.main_home.dir().join("history.jsonl")).unwrap(), b"one");
    assert_eq!(fs::metadata(lab.home().dir()).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn names_of_an_own_home_move_only_when_it_is_free_and_never_over_others() {
    let lab = Lab::new();
    lab.update(true);
    let home = lab.home();
    fs::write(home.dir().join("new"), "new").unwrap();
    lab.update(false);
    assert!(!lab.main_home.dir().join("new").exists());
    fs::write(home.dir().join("both"), "the home's").unwrap();
    fs::write(lab.main_home.dir().join("both"), "the main home's").unwrap();
    lab.update(true);
    assert_eq!(fs::read(lab.main_home.dir().join("new")).unwrap(), b"new");
    assert!(home.dir().join("new").is_symlink());
    assert_eq!(fs::read(lab.main_home.dir().join("both")).unwrap(), b"the main home's");
    assert_eq!(fs::read(home.dir().join("both")).unwrap(), b"the home's");
}

#[test]
fn the_login_and_databases_are_never_shared() {
    let lab = Lab::with_live(&login("alice"));
    for name in ["state_5.sqlite", "state_5.sqlite-wal", "models_cache.json"] {
        fs::write(lab.main_home.dir().join(name), "").unwrap();
    }
    lab.update(true);
    for private in
        ["auth.json", "state_5.sqlite", "state_5.sqlite-wal", "models_cache.json", "app-server-daemon"]
    {
        assert!(lab.home().dir().join(private).symlink_metadata().is_err(), "{private}");
    }
    fs::write(lab.home().auth_json(), "bob's").unwrap();
    fs::write(lab.home().dir().join("other.sqlite"), "").unwrap();
    lab.update(true);
    assert_eq!(fs::read(lab.live()).unwrap(), login("alice").doc().bytes());
    assert!(!lab.main_home.dir().join("other.sqlite").exists());
}

#[test]
fn mcp_logins_are_one_file_and_the_newer_one_wins() {
    let lab = Lab::new();
    let (ours, theirs) =
        (lab.home().dir().join(".credentials.json"), lab.main_home.dir().join(".credentials.json"));
    let same = || fs::metadata(&ours).unwrap().ino() == fs::metadata(&theirs).unwrap().ino();
    lab.update(true);
    fs::write(&theirs, "one").unwrap();
    lab.update(true);
    assert!(same());
    for (newer, text) in [(&ours, "two"), (&theirs, "three")] {
        fs::remove_file(newer).unwrap();
        fs::write(newer, text).unwrap();
        let file = fs::File::options().write(true).open(newer).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
        lab.update(true);
        assert!(same());
        assert_eq!(fs::read(&ours).unwrap(), text.as_bytes());
        file.set_modified(SystemTime::now() - Duration::from_secs(50)).unwrap();
    }
    assert_eq!(lab.lost().len(), 2, "what lost is kept");
    // A link of the user's is followed.
    fs::rename(&theirs, lab.main_home.dir().join("mine")).unwrap();
    symlink("mine", &theirs).unwrap();
    lab.update(true);
    assert!(theirs.is_symlink() && same());
}

#[test]
fn pool_in_a_temporary_folder_has_its_homes_in_the_users_state_folder() {
    let lab = Lab::new();
    let (paths, main_home) = (&lab.pool.paths, &lab.main_home);
    let root = paths.root().parent().unwrap();
    let user = root.join("user");
    fs::create_dir(&user).unwrap();
    let env = |temp: &Path, home: &Path| {
        let vars = [("TMPDIR", temp.to_str().unwrap()), ("HOME", home.to_str().unwrap())];
        Env::of(&vars, root, NOW)
    };
    let possible = |env: &Env| own_home::possible(paths, main_home, env);
    let settle = |env: &Env| elsewhere::settle(&lab.lock, paths, env).unwrap();
    // Outside of it they stay in the pool.
    let outside = env(&root.join("codex"), &user);
    settle(&outside);
    assert_eq!((possible(&outside), paths.homes().exists()), (Ok(()), false));
    // Without a safe place there is none.
    let inside = env(paths.root(), &user);
    for unsafe_home in [paths.root().join("home"), root.join("open")] {
        fs::create_dir_all(&unsafe_home).unwrap();
        fs::set_permissions(&unsafe_home, fs::Permissions::from_mode(0o777)).unwrap();
        let env = env(paths.root(), &unsafe_home);
        settle(&env);
        assert!(possible(&env).unwrap_err().contains("temporary") && !paths.homes().exists());
    }
    // A login that ended left a note. It is no home that would be lost.
    fs::create_dir_all(paths.homes().join("base")).unwrap();
    fs::write(paths.homes().join("base").join(MAIN_HOME_FILE), "x").unwrap();
    assert_eq!(possible(&inside), Ok(()));
    settle(&inside);
    let state = fs::canonicalize(paths.homes()).unwrap();
    assert!(state.starts_with(user.join(".local/state/codex-pool")), "{state:?}");
    assert_eq!(fs::metadata(&state).unwrap().mode() & 0o777, 0o700);
    lab.update(true);
    assert!(state.join(lab.home().dir().strip_prefix(paths.homes()).unwrap()).join("sessions").is_symlink());
    assert_eq!(main_home_of(paths, lab.home().dir()).unwrap(), main_home.dir());
    // It stays there, also for those who see another temporary folder, and is made again if it was removed.
    assert_eq!((possible(&inside), possible(&outside)), (Ok(()), Ok(())));
    fs::remove_dir_all(&state).unwrap();
    assert_eq!(possible(&inside), Ok(()));
    settle(&inside);
    assert_eq!(fs::canonicalize(paths.homes()).unwrap(), state);
    // Homes that are there are never moved.
    fs::remove_file(paths.homes()).unwrap();
    fs::create_dir_all(paths.homes().join("base/account")).unwrap();
    settle(&inside);
    assert!(possible(&inside).unwrap_err().contains("temporary") && !paths.homes().is_symlink());
}

#[test]
fn main_home_that_is_made_with_the_first_launch_can_have_homes() {
    let lab = Lab::new();
    fs::remove_dir_all(lab.main_home.dir()).unwrap();
    let env = Env::of(&[("TMPDIR", "/nowhere")], Path::new("/"), NOW);
    assert_eq!(own_home::possible(&lab.pool.paths, &lab.main_home, &env), Ok(()));
}
