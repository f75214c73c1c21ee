//! `rm`: removes an account and every copy of its credentials from the pool.

use std::path::PathBuf;

use codex_pool_core::account::AccountId;
use codex_pool_core::codex::find;
use codex_pool_core::folders::short;
use codex_pool_core::homes::in_use;
use codex_pool_core::shared::refuse_on_runner;
use codex_pool_core::{Error, ErrorKind, Result, removal, store};

use crate::cli::RmArgs;
use crate::context::{Context, OpenPool};
use crate::ui;

pub(crate) fn run(ctx: &Context, args: &RmArgs) -> Result<()> {
    let open = ctx.open()?;
    refuse_on_runner(open.pool.shared(), "codex-pool rm")?;
    let id = open.resolve(&args.account)?;
    let label = open.label(&id);
    let live = live_in(ctx, &open, &id);
    let pinned = open.pool.state().pin.as_ref() == Some(&id);
    if !live.is_empty() && !args.force {
        return Err(Error::new(format!("`{label}` is live in {}", live.join(" and "))).hint(
            "switch first, with `codex-pool use --best`; or `--force` takes its login out of there, too",
        ));
    }
    refuse_in_use(ctx, &open, &id)?;
    let where_else = match open.pool.shared() {
        Some(_) if cfg!(feature = "share") => " from every machine of the shared pool",
        _ => "",
    };
    // The pool is not locked while a question is open.
    drop(open);
    if !args.yes {
        let mut question =
            format!("Remove `{label}` and its credentials{where_else}? Only a new login brings it back");
        if !live.is_empty() {
            question.push_str(&format!("; it is live, and its login leaves {}, too", live.join(" and ")));
        }
        if pinned {
            question.push_str("; it is pinned, and the pin ends");
        }
        if !ui::confirm(
            &format!("{question}."),
            &format!("`{label}` is removed only after a yes, nothing was removed"),
            "--yes",
        )? {
            return Err(Error::of(ErrorKind::Stopped, "nothing was removed"));
        }
    }
    #[cfg(feature = "share")]
    let is_told = super::share::remove_for_all(ctx, &id, &live)?;
    #[cfg(not(feature = "share"))]
    let is_told = false;
    let free = remove(ctx, &id, Some(&live), is_told)?;
    ui::done(&format!("removed `{label}` and its credentials{where_else}"));
    if !live.is_empty() {
        ui::note(&format!(
            "{} has no login now; the next launch puts another account there",
            live.join(" and ")
        ));
    }
    if !free.is_empty() {
        ui::note(&format!(
            "{} is no account's folder any more: any account may be used there",
            free.join(", ")
        ));
    }
    if pinned {
        ui::note("nothing is pinned any more; every launch picks");
    }
    ui::note("the login was not revoked; copies of it elsewhere still work");
    Ok(())
}

/// Removes an account from this machine's pool. `live`: the homes that it may leave; `None`: all. `is_told`: the other
/// machines of a shared pool know already. Returns the folders that are no account's any more.
///
/// # Errors
/// As [`check`], or a file cannot be removed.
pub(super) fn remove(
    ctx: &Context,
    id: &AccountId,
    live: Option<&[String]>,
    is_told: bool,
) -> Result<Vec<String>> {
    let mut open = ctx.open()?;
    check(ctx, &open, id, live).map_err(|error| match is_told {
        true => Error {
            message: format!("the other machines remove it, but here {}", error.message),
            hint: Some("`codex-pool refresh` removes it here, too, as soon as it is not in use".to_owned()),
            ..error
        },
        false => unchanged(error),
    })?;
    let folders = open.pool.registry().get(id).map(|account| account.folders.clone()).unwrap_or_default();
    let codex = find::find(&ctx.env, &ctx.settings, None).ok();
    let servers = removal::remove_account(&open.lock, &mut open.pool, id, codex.as_deref(), open.now)?;
    let others = &open.pool.registry().accounts;
    let free = folders.iter().filter(|folder| !others.iter().any(|other| other.folders.contains(folder)));
    let free: Vec<String> = free.map(|folder| short(&store::path_of_key(folder), ctx.env.home())).collect();
    drop(open);
    for server in servers {
        ui::warn(&format!("Codex's background server (pid {}) could not be stopped", server.pid));
    }
    Ok(free)
}

/// Checks that an account can be removed here.
///
/// # Errors
/// It is gone, in use, or live elsewhere than in the homes that it may leave.
pub(super) fn check(ctx: &Context, open: &OpenPool, id: &AccountId, live: Option<&[String]>) -> Result<()> {
    let label = open.label(id);
    if open.pool.registry().get(id).is_none() {
        return Err(Error::of(ErrorKind::NoSuchAccount, format!("`{label}` is gone already")));
    }
    if live.is_some_and(|live| live_in(ctx, open, id) != live) {
        return Err(Error::new(format!("`{label}` was switched meanwhile")).hint("try again"));
    }
    refuse_in_use(ctx, open, id)
}

/// Says that nothing has happened yet.
pub(super) fn unchanged(error: Error) -> Error {
    Error { message: format!("{}; nothing was removed", error.message), ..error }
}

/// The main homes in which the account is live.
fn live_in(ctx: &Context, open: &OpenPool, id: &AccountId) -> Vec<String> {
    let homes = open.pool.state().homes.iter().filter(|(_, memory)| memory.account == *id);
    let dirs = homes.filter_map(|(key, _)| Some(store::path_of_key(key).parent()?.to_owned()));
    let main_homes = dirs.filter(|dir: &PathBuf| !dir.starts_with(ctx.paths.homes()));
    main_homes.map(|dir| dir.display().to_string()).collect()
}

fn refuse_in_use(ctx: &Context, open: &OpenPool, id: &AccountId) -> Result<()> {
    let mut users = open.processes.users_of_account_and_own_homes(&open.pool, id);
    if open.live() == Some(id) {
        // Where databases are is known only of this main home.
        users.extend(ctx.users_before_change(open, &ctx.main_home));
    }
    let mut names: Vec<String> = users.iter().map(in_use::HomeUser::describe).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!("`{}` is in use by {}", open.label(id), names.join(", "))).hint("end that first"))
}
