//! `refresh`: refreshes the usage of one or all accounts, and renews tokens where needed.

use std::process::ExitCode;

use codex_pool_core::account::{Account, AccountId, AuthState};
use codex_pool_core::time::human_duration;
use codex_pool_core::{Error, ErrorKind, Result, env, references};

use crate::cli::RefreshArgs;
use crate::context::Context;
use crate::refresh::{Mode, Outcome, Refresher, Scope};
use crate::view::AccountView;
use crate::{ui, view};

pub(crate) fn run(ctx: &Context, args: &RefreshArgs) -> Result<ExitCode> {
    let scope = match &args.account {
        Some(reference) => Scope::One(account(ctx, reference)?),
        None => Scope::All,
    };
    if args.background {
        return background(ctx, &scope, args.usage);
    }
    let outcomes = fetch(ctx, &scope)?;
    let open = ctx.open()?;
    let mut views = view::accounts(ctx, &open);
    let now = codex_pool_core::env::clock();
    if args.json {
        let (homes, identity) = (view::homes(ctx, &open), view::Identity::of(&ctx.env));
        ui::json(&match &scope {
            Scope::One(id) => view::json_of_one(&views, id, &homes, identity, now),
            Scope::All => view::json(&views, &homes, identity, now, false),
        });
    } else {
        if let Scope::One(id) = &scope {
            views.retain(|v| v.account.id == *id);
        }
        ui::table::accounts(&views, now, args.verbose);
        if let Some(text) = recent(&outcomes, &views, now) {
            ui::note(&text);
        }
        view::sharing::lines(&open.pool, now).iter().for_each(|line| ui::line(line));
    }
    if let Some(ahead) = open.pool.usage().clock_ahead(now) {
        ui::warn(&format!(
            "the clock of this machine is ahead of the service's by {} or more; `codex-pool doctor` says more",
            human_duration(ahead)
        ));
    }
    match &scope {
        Scope::One(id) => match (open.pool.registry().get(id), outcomes.first()) {
            (Some(account), Some((_, outcome))) => verdict(account, outcome, env::clock()),
            _ => Ok(ExitCode::SUCCESS),
        },
        // A failure of some accounts is shown with them. A failure of all is an error.
        Scope::All => {
            let failed = |o: &Outcome| matches!(o, Outcome::Failed(_) | Outcome::NeedsLogin);
            let all = !outcomes.is_empty() && outcomes.iter().all(|(_, o)| failed(o));
            let login = outcomes.iter().all(|(_, o)| matches!(o, Outcome::NeedsLogin));
            Ok(match (all, login) {
                (false, _) => ExitCode::SUCCESS,
                (true, true) => ExitCode::from(ErrorKind::LoginNeeded.exit_status()),
                (true, false) => ExitCode::FAILURE,
            })
        }
    }
}

/// Refreshes with a progress line on a terminal.
pub(crate) fn fetch(ctx: &Context, scope: &Scope) -> Result<Vec<(AccountId, Outcome)>> {
    let progress = ui::progress("fetching usage");
    let refreshed = Refresher::new(ctx)?.run(scope, Mode::Asked, &mut |p| progress.set(p.done, p.total))?;
    drop(progress);
    note_removed(&refreshed.removed);
    Ok(refreshed.outcomes)
}

/// Says which accounts are gone since they were removed on another machine.
pub(super) fn note_removed(labels: &[String]) {
    for label in labels {
        ui::note(&format!(
            "`{label}` was removed on another machine of the shared pool, and is removed here, too"
        ));
    }
}

/// Refreshes silently what is due, for launches and the attendant. For one account it renews the tokens, for which a
/// launch waits, and fetches usage only on request.
fn background(ctx: &Context, scope: &Scope, usage: bool) -> Result<ExitCode> {
    let mode = if matches!(scope, Scope::One(_)) && !usage { Mode::TokenOnly } else { Mode::Due };
    let refreshed = Refresher::new(ctx).and_then(|r| r.run(scope, mode, &mut |_| {}));
    let fine = refreshed.is_ok_and(|all| all.outcomes.iter().all(|(_, o)| !matches!(o, Outcome::Failed(_))));
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn account(ctx: &Context, reference: &str) -> Result<AccountId> {
    let open = ctx.open()?;
    Ok(references::resolve(&open.pool.registry().accounts, reference)?.id.clone())
}

/// Returns how old the data of the accounts is that were not fetched, since it is recent or the service wants a pause.
fn recent(outcomes: &[(AccountId, Outcome)], views: &[AccountView], now: i64) -> Option<String> {
    let until = outcomes.iter().filter_map(|(id, outcome)| match outcome {
        Outcome::Recent(until) => Some((id, until.unwrap_or(now))),
        _ => None,
    });
    let age = |id: &AccountId| {
        let usage = views.iter().find(|view| view.account.id == *id)?.usage.as_ref()?;
        Some(now - usage.fetched_at)
    };
    let (count, last, oldest) = until.fold((0, now, None), |(count, last, oldest), (id, at)| {
        (count + 1, last.max(at), oldest.max(age(id)))
    });
    let of = match (count, outcomes.len()) {
        (0, _) => return None,
        (1, 1) => String::new(),
        (1, _) => " of 1 account".to_owned(),
        (n, all) if n == all => String::new(),
        (n, _) => format!(" of {n} accounts"),
    };
    let age = oldest.map_or_else(|| "not known yet".to_owned(), |age| format!("{} old", human_duration(age)));
    Some(format!("usage{of} is {age}; next fetch possible in {}", human_duration(last - now)))
}

/// Returns the result for an account that was named.
fn verdict(account: &Account, outcome: &Outcome, now: i64) -> Result<ExitCode> {
    let word = account.shell_ref();
    let login = || {
        Error::of(ErrorKind::LoginNeeded, format!("{} needs a login", account.label))
            .hint(format!("`codex-pool reauth {word}`"))
    };
    match outcome {
        Outcome::Updated | Outcome::Recent(_) => Ok(ExitCode::SUCCESS),
        Outcome::NotApplicable => {
            Err(Error::new(format!("{} is an API key, which has no usage to ask for", account.label))
                .hint("`codex-pool refresh` asks for all others"))
        }
        Outcome::NeedsLogin => Err(account.trouble(now).unwrap_or_else(login)),
        Outcome::Failed(text) if account.auth.state == AuthState::Refused => {
            let error = Error::new(format!("{}: {text}", account.label));
            Err(account.remedy(now).map_or_else(login, |remedy| error.hint(remedy)))
        }
        Outcome::Failed(_) if account.auth.state.is_refusal() => {
            Err(account.trouble(now).unwrap_or_else(login))
        }
        Outcome::Failed(text) => Err(Error::new(format!("{}: {text}", account.label)).hint(format!(
            "try again with `codex-pool refresh {word}`, or see `codex-pool doctor --online`"
        ))),
    }
}
