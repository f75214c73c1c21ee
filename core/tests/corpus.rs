//! The inputs that fuzzing begins with, and those that once broke something (`fuzz/corpus`), run by stable Rust.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use codex_pool_core::auth_doc::{AuthDoc, Claims};
use codex_pool_core::codex::argv;
use codex_pool_core::codex::configuration::{CodexSettings, Surroundings};
use codex_pool_core::config::Settings;
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::references;
use codex_pool_core::store::{Registry, State, is_registry, parse_foreign_store};
use codex_pool_core::text::is_deceptive;
use codex_pool_core::usage::session_log::newest_limits;
use codex_pool_core::usage::{UsageCache, answer};

/// Returns the inputs of a target, of which there must be some.
fn inputs(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let files = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let inputs: Vec<_> = files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(!inputs.is_empty(), "{target}");
    inputs
}

#[test]
fn documents_and_claims() {
    for bytes in inputs("auth_doc") {
        let doc = AuthDoc::parse(bytes.clone()).expect("these are good ones");
        assert_eq!(doc.bytes(), bytes);
        assert_eq!(doc.clone().corrected().id(), doc.id());
        let _ = AuthDoc::parse_foreign(&bytes);
    }
    for bytes in inputs("claims") {
        let _ = Claims::of_jwt(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn answers_of_the_service() {
    for bytes in inputs("answer") {
        let Ok(answer) = serde_json::from_slice(&bytes) else { continue };
        let usage = answer::parse(&answer, 1_800_000_000).expect("these are answers");
        assert!(usage.windows.iter().all(|w| (0.0..=100.0).contains(&w.used_percent)));
        assert!(!usage.plan.is_some_and(|plan| plan.chars().any(is_deceptive)));
    }
}

#[test]
fn settings_and_command_lines_and_references() {
    for bytes in inputs("config") {
        let _ = Settings::parse(&String::from_utf8_lossy(&bytes));
    }
    for bytes in inputs("argv") {
        let words: Vec<OsString> =
            bytes.split(|b| *b == b'\n').map(|w| OsString::from_vec(w.to_vec())).collect();
        let call = argv::parse(&words);
        let longer = call.with_extra(&words, &["-c".into(), "own=1".into()]);
        let again = argv::parse(&longer);
        assert_eq!((again.command, again.target), (call.command, call.target));
    }
    for bytes in inputs("references") {
        let error = references::resolve(&[], &String::from_utf8_lossy(&bytes)).unwrap_err();
        assert!(!error.to_string().contains(is_deceptive));
    }
}

#[test]
fn files_of_the_pool_and_of_codex() {
    let dir = tempfile::tempdir().unwrap();
    let paths = PoolPaths::new(dir.path().to_owned());
    for bytes in inputs("registry") {
        let _ = (is_registry(&bytes), parse_foreign_store(&bytes));
        fs::write(paths.registry(), &bytes).unwrap();
        fs::write(paths.state(), &bytes).unwrap();
        let _ = (Registry::load(&paths), State::load(None, &paths));
        assert_eq!(fs::read(paths.registry()).unwrap(), bytes);
    }
    for bytes in inputs("usage") {
        fs::write(paths.usage(), &bytes).unwrap();
        assert!(!UsageCache::load(None, &paths).accounts.is_empty(), "these are good ones");
    }
    for bytes in inputs("codex_config") {
        fs::write(dir.path().join("config.toml"), &bytes).unwrap();
        let around = Surroundings {
            codex_home: dir.path(),
            system_dir: Path::new("/nonexistent"),
            user_home: None,
            cwd: Some(dir.path()),
        };
        let _ = CodexSettings::read(around, &argv::parse(&[])).hooks_override(dir.path(), dir.path());
    }
    for bytes in inputs("session_log") {
        let file = dir.path().join("log");
        fs::write(&file, &bytes).unwrap();
        let _ = newest_limits(&fs::File::open(&file).unwrap(), 0);
    }
}
