//! A pool to break, and the doctor's answer in a form that tests can query.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::files::mode;
use testkit::{Cmd, World};

/// Returns a world in which nothing is wrong: alice is live, bob is in the pool.
pub(crate) fn healthy() -> World {
    let world = World::new(&[]);
    fill(&world);
    world
}

/// Sets a world up so that nothing is wrong in it.
pub(crate) fn fill(world: &World) {
    world.link_admin();
    world.backend().add("alice");
    world.write_live(&world.backend().auth_json("alice"));
    world.add("bob");
}

/// What the doctor says.
#[derive(Debug)]
pub(crate) struct Diagnosis(Value);

/// Asks the doctor.
pub(crate) fn doctor(world: &World, args: &[&str]) -> Diagnosis {
    diagnose(world.pool(&["doctor", "--json"]).args(args))
}

/// Runs the doctor as this command, which the test has changed. The exit status must agree with `ok`.
#[track_caller]
pub(crate) fn diagnose(command: Cmd) -> Diagnosis {
    let output = command.run();
    let json = output.json();
    assert_eq!(json["schema"], 1);
    let fails = json["checks"].as_array().expect("checks").iter().any(|c| c["status"] == "fail");
    assert_eq!(json["ok"], !fails, "{output}");
    output.expect(i32::from(fails));
    Diagnosis(json)
}

impl Diagnosis {
    /// Returns the checks of that id.
    fn of(&self, id: &str) -> Vec<&Value> {
        self.0["checks"].as_array().expect("checks").iter().filter(|c| c["id"] == id).collect()
    }

    /// Requires a check of that id and status whose message has `text`; gives its fix.
    #[track_caller]
    pub(crate) fn has(&self, id: &str, status: &str, text: &str) -> String {
        let fits = |c: &&&Value| c["status"] == status && c["message"].as_str().unwrap_or("").contains(text);
        let of = self.of(id);
        let found = of.iter().find(fits);
        let found = found.unwrap_or_else(|| panic!("no {id} that is {status} with {text:?}: {self:#?}"));
        let fix = found["fix"].as_str().unwrap_or("").to_owned();
        assert_eq!(status == "ok", fix.is_empty(), "what is not as it should be says what to do: {found}");
        fix
    }

    /// Requires that every check of that id is ok, and that there is one.
    #[track_caller]
    pub(crate) fn well(&self, id: &str) {
        let of = self.of(id);
        assert!(!of.is_empty() && of.iter().all(|c| c["status"] == "ok"), "{id}: {self:#?}");
    }

    /// Returns what was fixed.
    pub(crate) fn fixed(&self) -> Vec<&str> {
        let list = self.0["fixed"].as_array();
        list.map_or_else(Vec::new, |list| list.iter().filter_map(Value::as_str).collect())
    }

    /// Everything that is not as it should be.
    pub(crate) fn complaints(&self) -> Vec<&Value> {
        self.0["checks"].as_array().expect("checks").iter().filter(|c| c["status"] != "ok").collect()
    }
}

/// Changes a JSON file of the pool.
pub(crate) fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON");
    edit(&mut json);
    fs::write(path, json.to_string()).expect("write it");
}

/// The registry's entry of an account, to be changed.
pub(crate) fn edit_account(world: &World, label: &str, edit: impl FnOnce(&mut Value)) {
    edit_json(&world.pool_home().join("accounts.json"), |registry| {
        let accounts = registry["accounts"].as_array_mut().expect("accounts");
        edit(accounts.iter_mut().find(|a| a["label"] == label).expect("the account"));
    });
}

/// Adds a mark of an unfinished operation, whose process is of another boot.
pub(crate) fn mark(world: &World, mut mark: Value) {
    mark["process"] = "0-0-1-1".into();
    mark["at"] = 1.into();
    edit_json(&world.pool_home().join("state.json"), |state| state["marks"] = Value::Array(vec![mark]));
}

/// Returns every file below a folder with its mode and bytes, and every link with its target.
pub(crate) fn snapshot(dir: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder").map(|e| e.expect("an entry")) {
        let (path, kind) = (entry.path(), entry.file_type().expect("its kind"));
        if kind.is_dir() {
            found.push((path.clone(), mode(&path), Vec::new()));
            found.extend(snapshot(&path));
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).expect("a link");
            found.push((path, 0, target.into_os_string().into_encoded_bytes()));
        } else {
            let bytes = fs::read(&path).expect("a file");
            found.push((path.clone(), mode(&path), bytes));
        }
    }
    found.sort();
    found
}
