//! The part of `init` for the shell: the env files, and the line in the start file that reads them.

use codex_pool_core::codex::find::all_on_path;
use codex_pool_core::files::{self, Durability};
use codex_pool_core::{Error, Result};

use super::Answers;
use crate::context::Context;
use crate::shell_env::new_shell::{Found, NewShell};
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
    let Some(user) = UserHome::of(&ctx.env) else { return Ok(()) };
    start_files(ctx, answers, &user, &shell_env::start_lines(&user, root))
}

/// What a start file needs, so that new shells find the shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    /// Our line.
    Line,
    /// Our line at its end: a later one puts another `codex` first.
    LineLast,
}

/// Judges a start file by what a new shell finds that reads it; without a shell that answers, by its text.
fn need(shell: Option<&NewShell<'_>>, start: &StartLine) -> Need {
    let has = shell_env::has_line(start).unwrap_or(false);
    match (shell.and_then(|shell| shell.finds(start.start)), has) {
        (Some(Found::Shim), _) | (None, true) => Need::Nothing,
        (_, false) => Need::Line,
        (Some(_), true) => Need::LineLast,
    }
}

fn start_files(ctx: &Context, answers: Answers, user: &UserHome<'_>, lines: &[StartLine]) -> Result<()> {
    let Some(line) = lines.first().map(|start| &start.line) else { return Ok(()) };
    let shell = NewShell::of(user, &ctx.env);
    let needs: Vec<(&StartLine, Need)> =
        lines.iter().map(|start| (start, need(shell.as_ref(), start))).collect();
    let needy = || needs.iter().filter(|(_, need)| *need != Need::Nothing);
    let files: Vec<String> = needy().map(|(start, _)| start.file.display().to_string()).collect();
    let files = files.join(" and ");
    if !files.is_empty() {
        let moves = needy().any(|(_, need)| *need == Need::LineLast);
        let (verb, doing) = if moves {
            ("Put our line last in", "putting our line last in")
        } else {
            ("Add a line to", "adding a line to")
        };
        let question = format!("{verb} {files}, so that `codex` is the shim in new terminals?");
        let skipped = format!("{doing} {files}");
        // As in install.sh, for start files that the user manages elsewhere.
        let no_modify = ctx.env.text("NO_MODIFY_PATH") == Some("1");
        if no_modify || !answers.agree(&question, true, &skipped)? {
            ui::line(&format!("`codex` is not the shim yet. Put this line at the end of {files}:"));
            ui::block(&format!("  {line}"));
            return Ok(());
        }
        for (start, need) in needy() {
            write(start, *need).map_err(|e| {
                Error::io("write", &start.file, &e).hint(format!("put this line at its end yourself: {line}"))
            })?;
            let done = if *need == Need::LineLast { "Moved to the end of" } else { "Added to" };
            ui::done(&format!("{done} {}: {line}", start.file.display()));
            shell.iter().for_each(|shell| check(shell, start));
        }
    }
    let first = all_on_path(&ctx.env).into_iter().next().map(|(file, _)| file);
    if first.as_ref().and_then(|file| file.canonicalize().ok()) == ctx.paths.shim().canonicalize().ok() {
        ui::line("It is first on PATH");
    } else {
        // Without the look whether the file is there, as install.sh says it.
        let now =
            line.split_once("] || ").or_else(|| line.split_once("; or ")).map_or(&**line, |(_, now)| now);
        ui::line("Open a new terminal, or type this here:");
        ui::block(&format!("  {now}"));
    }
    Ok(())
}

fn write(start: &StartLine, need: Need) -> std::io::Result<()> {
    match need {
        Need::LineLast => shell_env::move_line(start),
        Need::Line | Need::Nothing => shell_env::add_line(start).map(drop),
    }
}

/// Says if a new shell finds another `codex` all the same, and which line of a start file makes it so.
fn check(shell: &NewShell<'_>, start: &StartLine) {
    let Some(Found::Other(other)) = shell.finds(start.start) else { return };
    let place = shell.line_before(start.start, &other);
    let why = place.map_or_else(String::new, |place| format!(", which {place} puts first"));
    ui::warn(&format!("`codex` is still {} in new shells{why}; put our line behind it", other.display()));
}
