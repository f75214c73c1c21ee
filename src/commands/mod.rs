//! One verb, one file. A verb reads and changes the pool through core, talks to people through `ui` and to the service
//! through `refresh` and `net`, and prints nothing itself. `login` is the one file that is no verb: two verbs share it.

mod add;
mod attend;
mod completions;
mod disable;
mod doctor;
mod enable;
mod export;
mod history;
mod import;
mod init;
mod learn_start;
mod list;
mod log;
mod login;
mod man;
#[path = "move.rs"]
mod move_;
mod notify;
mod reauth;
mod refresh;
mod rename;
mod rm;
mod run;
mod set;
#[cfg(feature = "share")]
mod share;
mod status;
mod uninstall;
mod update;
#[path = "use.rs"]
mod use_;
mod watch;
mod why;

use std::process::ExitCode;

use codex_pool_core::env::Env;
use codex_pool_core::{Error, Result, files, process};

pub(crate) use run::explain;
pub(crate) use status::with_colour;

use crate::cli::Command;
use crate::context::{Context, Notice};
use crate::ui;

/// Runs a verb. The status is 0 unless the verb has its own (a program that ran, a check that failed).
pub(crate) fn run(command: Command, env: &Env) -> Result<ExitCode> {
    let done = |result: Result<()>| result.map(|()| ExitCode::SUCCESS);
    let ctx = || Context::new(env, tell);
    match command {
        Command::Init(args) => done(init::run(&ctx()?, &args)),
        Command::Add(args) => done(add::run(&ctx()?, &args)),
        Command::Reauth(args) => done(reauth::run(&ctx()?, &args)),
        Command::Import(args) => done(import::run(&ctx()?, &args)),
        Command::Export(args) => done(export::run(&ctx()?, &args)),
        Command::Rm(args) => done(rm::run(&ctx()?, &args)),
        Command::Rename(args) => done(rename::run(&ctx()?, &args)),
        Command::Enable(args) => done(enable::run(&ctx()?, &args)),
        Command::Disable(args) => done(disable::run(&ctx()?, &args)),
        Command::Set(args) => done(set::run(&ctx()?, &args)),
        #[cfg(feature = "share")]
        Command::Share(args) => done(share::run(&ctx()?, &args)),
        Command::List(args) => done(list::run(&ctx()?, &args)),
        Command::Refresh(args) => refresh::run(&ctx()?, &args),
        Command::Use(args) => done(use_::run(&ctx()?, &args)),
        Command::Run(args) => run::run(env, &args),
        Command::Doctor(args) => doctor::run(env, &args),
        Command::Uninstall(args) => uninstall::run(&args),
        Command::Update(args) => done(update::run(env, &args)),
        Command::Completions(args) => done(completions::run(&args)),
        Command::Man(args) => done(man::run(&args)),
        Command::Why(args) => done(why::run(&ctx()?, &args)),
        Command::Notify => done(notify::run(env)),
        Command::Log(args) => done(log::run(&ctx()?, &args)),
        Command::Status(args) => Ok(status::run(env, &args)),
        Command::History(args) => done(history::run(&ctx()?, &args)),
        Command::LearnStart(args) => done(learn_start::run(env, &args)),
        Command::Attend => done(attend::run(env)),
        Command::Move(args) => move_::run(env, &args),
        Command::Version => {
            ui::line(concat!("codex-pool ", env!("CARGO_PKG_VERSION")));
            Ok(ExitCode::SUCCESS)
        }
        Command::CompleteRefs => done(list::complete_refs(&ctx()?)),
        Command::Watch(args) => watch::run(&ctx()?, &args),
    }
}

/// Makes root, who runs a verb on the pool of another user, that user before any file is touched: links of that user
/// lead nowhere then that the user could not go. What `run` starts must stay root's, so it leaves such a pool alone.
///
/// # Errors
/// Root may not become that user here.
pub(crate) fn act_as_owner(command: &Command, env: &Env) -> Result<()> {
    // The attendant of another user's pool ends at once.
    if matches!(command, Command::Run(_) | Command::Attend | Command::Completions(_) | Command::Man(_)) {
        return Ok(());
    }
    let Some(owner) = files::another_user_of_root(env) else { return Ok(()) };
    process::become_user(owner)
        .map_err(|e| Error::new(format!("cannot act as user {}, whose pool this is: {e}", owner.uid)))?;
    // The change of the user has made it readable again.
    keep_secrets_out_of_core_dumps();
    Ok(())
}

/// Sees to it that no core dump contains credentials, and that no other process of the user may read them in memory. The
/// flag ends with exec, so that it does not concern Codex.
pub(crate) fn keep_secrets_out_of_core_dumps() {
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
}

/// Shows what the context has to say.
fn tell(notice: &Notice) {
    match notice {
        Notice::Note(text) => ui::note(text),
        Notice::Warning(text) => ui::warn(text),
    }
}
