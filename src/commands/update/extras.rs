//! The manual page and the completions that install.sh put where they are looked for. After an update the new program
//! writes those again that are there, and ours. Codex and codex-pool do without them, so a failure is a warning.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use codex_pool_core::codex::probe;
use codex_pool_core::env::Env;
use codex_pool_core::files::{self, Durability};

use crate::programs::ANSWER;
use crate::receipt::Receipt;
use crate::ui;

/// The end of the last line of our files, as install.sh writes it.
const MARK: &str = "Written by codex-pool's install.sh; replaced and removed with it.";
/// A larger file is none of ours, bytes.
const LIMIT: u64 = 4 << 20;

/// One of the files: what it is for, the arguments that print it, how a comment begins, and the file.
struct Extra {
    kind: &'static str,
    args: &'static [&'static str],
    comment: &'static str,
    file: PathBuf,
}

/// Lets the new program write the files that are there, and says which.
pub(super) fn renew(tool: &Path, receipt: &Receipt, env: &Env) {
    let (mut renewed, mut failed) = (Vec::new(), Vec::new());
    for extra in all(receipt, env).into_iter().filter(|extra| is_ours(&extra.file)) {
        match write(tool, &extra) {
            Ok(()) => renewed.push(extra.kind),
            Err(_) => failed.push(extra.file),
        }
    }
    if !renewed.is_empty() {
        renewed.dedup();
        ui::done(&format!("and its help for man and the shells ({})", renewed.join(", ")));
    }
    for file in failed {
        ui::warn(&format!("{} is still of the version before", file.display()));
    }
}

/// Returns where the files may be: where the environment says, and where they were put.
fn all(receipt: &Receipt, env: &Env) -> Vec<Extra> {
    let home = env.home();
    let place = |variable: &str, recorded: Option<PathBuf>, usual: &str| {
        let named = env.get(variable).map(PathBuf::from).filter(|dir| dir.is_absolute());
        let mut places: Vec<PathBuf> = named.or_else(|| Some(home?.join(usual))).into_iter().collect();
        places.extend(recorded.filter(|dir| dir.is_absolute() && !places.contains(dir)));
        places
    };
    let data = place("XDG_DATA_HOME", receipt.folder("data_home"), ".local/share");
    let config = place("XDG_CONFIG_HOME", receipt.folder("config_home"), ".config");
    let of = |kind, args, comment, places: &[PathBuf], file: &str| -> Vec<Extra> {
        places.iter().map(|dir| Extra { kind, args, comment, file: dir.join(file) }).collect()
    };
    [
        of("man", &["man"], ".\\\"", &data, "man/man1/codex-pool.1"),
        of("bash", &["completions", "bash"], "#", &data, "bash-completion/completions/codex-pool"),
        of("zsh", &["completions", "zsh"], "#", &data, "zsh/site-functions/_codex-pool"),
        of("fish", &["completions", "fish"], "#", &config, "fish/completions/codex-pool.fish"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns whether a file is ours, and nobody else can put another one in its place.
fn is_ours(file: &Path) -> bool {
    let own = file.parent().and_then(|dir| fs::metadata(dir).ok());
    let own =
        own.is_some_and(|meta| meta.uid() == nix::unistd::geteuid().as_raw() && meta.mode() & 0o002 == 0);
    own && file.symlink_metadata().is_ok_and(|meta| meta.is_file())
        && files::read_small(file, LIMIT).ok().flatten().is_some_and(|text| {
            String::from_utf8_lossy(&text).lines().last().is_some_and(|line| line.ends_with(MARK))
        })
}

fn write(tool: &Path, extra: &Extra) -> io::Result<()> {
    let text = probe::answer(Command::new(tool).env_clear().args(extra.args), ANSWER);
    let text =
        text.filter(|text| !text.is_empty()).ok_or_else(|| io::Error::other("the program prints none"))?;
    let text = format!("{text}{} {MARK}\n", extra.comment);
    files::write_whole_as(&extra.file, text.as_bytes(), 0o644, Durability::Fast)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_that_of_the_installer() {
        assert!(include_str!("../../../install.sh").contains(&format!("EXTRA_MARK=\"{MARK}\"\n")));
    }
}
