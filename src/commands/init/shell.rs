//! The part of `init` for the shell: the env files, and the line in the start file that reads them.

use std::path::Path;

use codex_pool_core::codex::find::all_on_path;
use codex_pool_core::files::{self, Durability};
use codex_pool_core::{Error, Result};

use super::Answers;
use crate::context::Context;
use crate::shell_env::{self, EnvFiles, StartLine, UserHome};
use crate::ui;

/// Writes the env files, and lets new shells read them.
pub(super) fn put_on_path(ctx: &Context, answers: Answers) -> Result<()> {
    let (root, bin) = (ctx.paths.root(), ctx.paths.bin());
    let Some(EnvFiles { sh, fish }) = shell_env::env_files(&bin) else {
        ui::warn(&format!(
            "{} cannot be on PATH, because of its name; choose another with CODEX_POOL_HOME",
            bin.display()
        ));
        return Ok(());
    };
    for (name, text) in [("env", sh), ("env.fish", fish)] {
        let file = root.join(name);
        if files::read_small(&file, 1 << 16).ok().flatten().as_deref() != Some(text.as_bytes()) {
            files::write_whole(&file, text.as_bytes(), Durability::Fast)
                .map_err(|e| Error::io("write", &file, &e))?;
        }
    }
    let first = all_on_path(&ctx.env).into_iter().next().map(|(file, _)| file);
    if first.as_ref().and_then(|file| file.canonicalize().ok()) == ctx.paths.shim().canonicalize().ok() {
        ui::line("It is first on PATH");
        return Ok(());
    }
    let Some(home) = ctx.env.home() else { return Ok(()) };
    let user = UserHome {
        home,
        shell: ctx.env.get("SHELL").map_or(Path::new(""), Path::new),
        zdotdir: ctx.env.get("ZDOTDIR").map(Path::new),
        config: ctx.env.get("XDG_CONFIG_HOME").map(Path::new),
    };
    start_files(ctx, answers, &shell_env::start_lines(&user, root))
}

fn start_files(ctx: &Context, answers: Answers, lines: &[StartLine]) -> Result<()> {
    let Some(line) = lines.first().map(|start| &start.line) else { return Ok(()) };
    let missing: Vec<&StartLine> =
        lines.iter().filter(|start| !shell_env::has_line(start).unwrap_or(false)).collect();
    let files: Vec<String> = missing.iter().map(|start| start.file.display().to_string()).collect();
    let files = files.join(" and ");
    if !missing.is_empty() {
        let question = format!("Add a line to {files}, so that `codex` is the shim in new terminals?");
        let skipped = format!("adding a line to {files}");
        // As in install.sh, for start files that the user manages elsewhere.
        let no_modify = ctx.env.text("NO_MODIFY_PATH") == Some("1");
        if no_modify || !answers.agree(&question, true, &skipped)? {
            ui::line(&format!("`codex` is not the shim yet. Put this line at the end of {files}:\n  {line}"));
            return Ok(());
        }
        for start in missing {
            shell_env::add_line(start).map_err(|e| {
                Error::io("write", &start.file, &e).hint(format!("put this line at its end yourself: {line}"))
            })?;
            ui::done(&format!("Added to {}: {line}", start.file.display()));
        }
    }
    ui::line(&format!("Open a new terminal, or type this here: {line}"));
    Ok(())
}
