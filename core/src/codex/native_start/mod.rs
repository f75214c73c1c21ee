//! Starting the native Codex without Node. npm's `codex` is JavaScript that starts the native program and takes ten
//! times as long as that. What it would start is learnt once per installation, in the background ([`learn`]), kept
//! in the pool's `native/`, and used for as long as every file that it depends on is the very same.
//!
//! Looking it up needs no lock, starts nothing and writes nothing.

mod identity;
mod interpreter;
mod learn;
mod observed;

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Settings;
use crate::env::{self, Env};
use crate::files::{self, Durability, PoolLock};
use crate::hash::short_hash_text;
use crate::paths::PoolPaths;
use identity::Stamp;
use interpreter::Script;

pub use learn::learn;

/// Variables that change what Node or the launcher does: with any of them Codex starts through Node.
const THROUGH_NODE: [&str; 6] = [
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_PRESERVE_SYMLINKS",
    "NODE_PRESERVE_SYMLINKS_MAIN",
    "npm_config_user_agent",
    "npm_execpath",
];
/// Form of the files in `native/`.
const VERSION: u32 = 1;
/// More than any record has, bytes.
const LARGEST: u64 = 256 << 10;
/// How long an installation that was looked at is not looked at again, seconds.
const RETRY: i64 = 3600;

/// What is known of a launcher.
#[derive(Debug)]
pub enum Known {
    /// What it would start.
    Native(NativeStart),
    /// Nothing; it could be learnt.
    Unknown(Unknown),
    /// Codex is to start as it is: no script for Node, or nobody wants it otherwise.
    AsItIs,
}

/// What a launcher starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeStart {
    program: PathBuf,
    argv0: String,
    /// Arguments in front of the user's, and behind them.
    before: Vec<String>,
    after: Vec<String>,
    env: Vec<(String, Change)>,
}

/// What the launcher does to a variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    /// Sets it, whatever it was.
    Set(String),
    /// Removes it.
    Remove,
    /// Puts this before and after its value.
    Around(String, String),
}

impl NativeStart {
    /// The native program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// argv[0] as the launcher gives it.
    pub(crate) fn argv0(&self) -> &OsStr {
        self.argv0.as_ref()
    }

    /// The launcher's arguments around the user's.
    pub(crate) fn args(&self, given: &[OsString]) -> Vec<OsString> {
        let own = |list: &[String]| list.iter().map(OsString::from).collect::<Vec<_>>();
        [own(&self.before), given.to_vec(), own(&self.after)].concat()
    }

    /// Changes environment entries as the launcher does.
    pub(crate) fn change_env(&self, entries: &mut Vec<OsString>) {
        for (name, change) in &self.env {
            match change {
                Change::Set(value) => env::set(entries, name, Some(value.as_ref())),
                Change::Remove => env::set(entries, name, None),
                Change::Around(before, after) => {
                    let old = entries.iter().find_map(|entry| env::value_of(entry, name));
                    let new = old
                        .map(|old| [before.as_ref(), old, after.as_ref()].into_iter().collect::<OsString>());
                    env::set(entries, name, new.as_deref());
                }
            }
        }
    }

    /// Whether the changes say what the launcher does with this environment.
    fn fits(&self, env: &Env) -> bool {
        self.env.iter().all(|(name, change)| !matches!(change, Change::Around(..)) || env.get(name).is_some())
    }
}

/// A file in `native/`: what was learnt, and everything that it depends on.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    launcher: PathBuf,
    node: PathBuf,
    /// The launcher without links.
    real: PathBuf,
    files: Vec<(PathBuf, Stamp)>,
    /// Variables that the launcher looks at: with any of them Codex starts through Node.
    unset: Vec<String>,
    start: NativeStart,
}

impl Record {
    /// Whether every file is what it was.
    fn holds(&self) -> bool {
        std::fs::canonicalize(&self.launcher).is_ok_and(|real| real == self.real)
            && self.files.iter().all(|(path, stamp)| stamp.is_of(path))
    }
}

/// A launcher of which nothing is known that holds.
#[derive(Debug)]
pub struct Unknown {
    key: String,
    /// Of everything that is known to matter, now.
    identity: String,
}

/// `native/<key>.tried`: an installation that was looked at.
#[derive(Debug, Serialize, Deserialize)]
struct Tried {
    identity: String,
    /// Unix seconds.
    at: i64,
    /// Why nothing was learnt.
    error: Option<String>,
}

/// What is known of this launcher, in this environment.
pub fn known(env: &Env, settings: &Settings, paths: &PoolPaths, launcher: &Path) -> Known {
    if !settings.native_start || THROUGH_NODE.iter().any(|name| env.is_set(name)) {
        return Known::AsItIs;
    }
    let Some(script) = Script::of(launcher, env) else { return Known::AsItIs };
    let key = key(launcher, &script.node);
    let Some(record) = load(&paths.native_start(&key), launcher, &script.node) else {
        return Known::Unknown(Unknown { identity: identity_of(launcher, &script, &[]), key });
    };
    if !record.holds() {
        return Known::Unknown(Unknown { identity: identity_of(launcher, &script, &record.files), key });
    }
    if record.unset.iter().any(|name| env.is_set(name)) || !record.start.fits(env) {
        return Known::AsItIs;
    }
    Known::Native(record.start)
}

/// How a launcher starts Codex, for the doctor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Without Node: the native program.
    Native(PathBuf),
    /// Through Node: nothing was learnt yet.
    NotYet,
    /// Through Node, and why.
    Node(String),
}

/// How this launcher starts Codex in this environment; `None` if it is no script for Node.
pub fn way(env: &Env, settings: &Settings, paths: &PoolPaths, launcher: &Path) -> Option<Way> {
    Script::of(launcher, env)?;
    if !settings.native_start {
        return Some(Way::Node("native_start is off".to_owned()));
    }
    Some(match known(env, settings, paths, launcher) {
        Known::Native(native) => Way::Native(native.program),
        Known::Unknown(unknown) => match load_tried(&paths.native_tried(&unknown.key)) {
            Some(Tried { identity, error: Some(why), .. }) if identity == unknown.identity => Way::Node(why),
            _ => Way::NotYet,
        },
        Known::AsItIs => match THROUGH_NODE.iter().find(|name| env.is_set(name)) {
            Some(name) => Way::Node(format!("{name} is set")),
            None => Way::Node("a variable that the launcher looks at is set".to_owned()),
        },
    })
}

/// Notes that this installation is being looked at. Whether that is to be done: each is looked at once, and
/// again only if something changes or after an hour.
pub fn claim(_lock: &PoolLock, paths: &PoolPaths, unknown: &Unknown, now: i64) -> bool {
    let path = paths.native_tried(&unknown.key);
    let lately = load_tried(&path)
        .is_some_and(|t| t.identity == unknown.identity && (0..RETRY).contains(&now.saturating_sub(t.at)));
    if lately || !is_ours(paths.root()) {
        return false;
    }
    let tried = Tried { identity: unknown.identity.clone(), at: now, error: None };
    files::create_private_dir(&paths.native_dir()).and_then(|()| save(&path, &tried)).is_ok()
}

fn key(launcher: &Path, node: &Path) -> String {
    let [launcher, node] = [launcher, node].map(|path| path.as_os_str().as_encoded_bytes());
    short_hash_text(&[launcher, b"\0", node])
}

/// A file that somebody else made says nothing about what we run.
fn is_ours(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.uid() == nix::unistd::geteuid().as_raw())
}

fn load(path: &Path, launcher: &Path, node: &Path) -> Option<Record> {
    let bytes = files::read_small(path, LARGEST).ok().flatten().filter(|_| is_ours(path))?;
    let record: Record = serde_json::from_slice(&bytes).ok()?;
    (record.version == VERSION && record.launcher == launcher && record.node == node).then_some(record)
}

fn load_tried(path: &Path) -> Option<Tried> {
    serde_json::from_slice(&files::read_small(path, LARGEST).ok()??).ok()
}

fn save(path: &Path, value: &impl Serialize) -> std::io::Result<()> {
    files::write_whole(path, &serde_json::to_vec(value)?, Durability::Fast)
}

/// Of the launcher, its package, Node, and what was learnt to matter before.
fn identity_of(launcher: &Path, script: &Script, more: &[(PathBuf, Stamp)]) -> String {
    let package = interpreter::package_of(&script.path).map(|root| root.join("package.json"));
    let own = [Some(launcher.to_owned()), Some(script.path.clone()), Some(script.node.clone()), package];
    let own = own.into_iter().flatten().map(|path| Stamp::take(&path));
    let more = more.iter().map(|(path, stamp)| stamp.again(path));
    let all: Vec<String> =
        own.chain(more).map(|stamp| stamp.map_or_else(String::new, |s| s.0 + ";")).collect();
    short_hash_text(&all.iter().map(String::as_bytes).collect::<Vec<_>>())
}
