//! Memories: what one home changes, all get, and a text that loses to a later one is kept.

use super::*;
use crate::homes::memories::share;

struct Two {
    lab: Lab,
    own: CodexHome,
}

impl Two {
    fn new() -> Two {
        let lab = Lab::new();
        let own = lab.main_home.own(&lab.pool.paths, login("bob").doc().id());
        let two = Two { lab, own };
        own_home::create(&two.lab.lock, &two.lab.pool.paths, &two.lab.main_home, &two.own).unwrap();
        two.share(Some(&two.own));
        two
    }

    fn share(&self, into: Option<&CodexHome>) {
        let Lab { lock, pool, main_home, .. } = &self.lab;
        share(lock, &pool.paths, main_home, into.map(CodexHome::dir), NOW).unwrap();
    }

    /// Writes a memory that is so many seconds old.
    fn write(&self, home: &CodexHome, name: &str, text: &str, age: u64) {
        let file = home.dir().join("memories").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        let at = SystemTime::now() - Duration::from_secs(age);
        fs::File::options().write(true).open(&file).unwrap().set_modified(at).unwrap();
    }

    fn both(&self, name: &str) -> [Option<String>; 2] {
        [&self.lab.main_home, &self.own]
            .map(|home| fs::read_to_string(home.dir().join("memories").join(name)).ok())
    }

    fn lost(&self) -> usize {
        LostFound::new(&self.lab.pool.paths).entries().len()
    }
}

#[test]
fn a_change_and_a_deletion_reach_the_other_home_and_nothing_else_is_touched() {
    let two = Two::new();
    let main = two.lab.main_home.clone();
    two.write(&main, "deep/er/a.md", "one", 50);
    two.write(&main, "b.md", "b", 50);
    two.write(&two.own, "half.lock", "", 50);
    two.share(None);
    assert_eq!(two.both("deep/er/a.md"), [Some("one".to_owned()), Some("one".to_owned())]);
    two.write(&two.own, "deep/er/a.md", "two", 40);
    two.share(None);
    assert_eq!(two.both("deep/er/a.md"), [Some("two".to_owned()), Some("two".to_owned())]);
    fs::remove_dir_all(two.own.dir().join("memories/deep")).unwrap();
    two.share(None);
    assert_eq!(two.both("deep/er/a.md"), [None, None]);
    assert!(!main.dir().join("memories/deep").exists());
    assert_eq!(two.both("b.md"), [Some("b".to_owned()), Some("b".to_owned())]);
    assert_eq!(two.both("half.lock"), [None, Some(String::new())]);
    assert_eq!(two.lost(), 0);
}

#[test]
fn a_later_change_wins_over_an_earlier_one_which_is_kept_and_over_a_deletion() {
    let two = Two::new();
    let main = two.lab.main_home.clone();
    two.write(&main, "a.md", "old", 90);
    two.write(&main, "b.md", "old", 90);
    two.share(None);
    two.write(&main, "a.md", "later", 10);
    two.write(&two.own, "a.md", "earlier", 20);
    two.write(&main, "b.md", "changed", 10);
    fs::remove_file(two.own.dir().join("memories/b.md")).unwrap();
    two.share(None);
    assert_eq!(two.both("a.md"), [Some("later".to_owned()), Some("later".to_owned())]);
    assert_eq!(two.both("b.md"), [Some("changed".to_owned()), Some("changed".to_owned())]);
    assert_eq!(two.lost(), 1);
}

#[test]
fn a_new_home_deletes_nothing_and_a_link_of_an_earlier_version_is_replaced() {
    let two = Two::new();
    let main = two.lab.main_home.clone();
    two.write(&main, "a.md", "a", 10);
    two.share(None);
    let carol = main.own(&two.lab.pool.paths, login("carol").doc().id());
    own_home::create(&two.lab.lock, &two.lab.pool.paths, &main, &carol).unwrap();
    symlink(main.dir().join("memories"), carol.dir().join("memories")).unwrap();
    own_home::update(&two.lab.lock, &two.lab.pool.paths, &main, &carol, true, NOW).unwrap();
    assert!(!carol.dir().join("memories").is_symlink());
    assert_eq!(fs::read_to_string(carol.dir().join("memories/a.md")).unwrap(), "a");
    assert_eq!(two.both("a.md"), [Some("a".to_owned()), Some("a".to_owned())]);
}
