//! Any `config.toml` of Codex can be read.
#![no_main]

use std::path::Path;

use codex_pool_core::codex::argv;
use codex_pool_core::codex::configuration::{CodexSettings, Surroundings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.toml"), bytes).unwrap();
    let around = Surroundings {
        codex_home: dir.path(),
        system_dir: Path::new("/nonexistent"),
        user_home: None,
        cwd: Some(dir.path()),
    };
    let settings = CodexSettings::read(around, &argv::parse(&[]));
    let _ = settings.hooks_override(dir.path(), dir.path());
});
