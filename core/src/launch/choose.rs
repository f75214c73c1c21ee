//! Who: the account of a launch. Order of authority: asked for by name, the session we are inside,
//! the pin, the pick.

use std::path::PathBuf;

use super::target::Owner;
use super::{Held, Launch, Line, Trouble, nested};
use crate::account::{Account, AccountId, AccountKind, AuthState};
use crate::codex::layers::CodexSettings;
use crate::env::{Env, names};
use crate::error::{Error, ErrorKind, Result};
use crate::launch::ledger::Ledger;
use crate::pick::{Candidate, Ranked, Reason, Tier, pick};
use crate::pool::Pool;
use crate::references;
use crate::seats::{self, Base, Seat};
use crate::usage::UsageCache;

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// This account, wherever it can sit.
    Account(AccountId),
    /// The seat of the session that we are inside.
    Stay(Seat, Option<AccountId>),
    /// Nobody can be picked: whatever is live.
    Live,
}

impl Launch<'_> {
    pub(super) fn choose(&self, held: &Held<'_>, lines: &mut Vec<Line>) -> Result<Choice, Trouble> {
        if let Some(name) = self.named() {
            return named(held, name).map(Choice::Account).map_err(Trouble::Named);
        }
        if let Some((seat, account)) = nested::session(self.env(), held) {
            lines.push(Line::Verbose("inside a session: its own account".to_owned()));
            if seat.dir() == held.base.dir()
                || seats::home::base_of(&held.pool.paths, seat.dir()).as_deref() == Some(held.base.dir())
            {
                return Ok(Choice::Stay(seat, account));
            }
            // Another CODEX_HOME than the session's: its account, in a seat there.
            if let Some(account) = account {
                return Ok(Choice::Account(account));
            }
        }
        let owner = self.owner(held);
        if let Owner::Holder(seat, account) = owner {
            lines.push(Line::Verbose("the session is open there".to_owned()));
            return Ok(Choice::Stay(seat, account));
        }
        // Whether the pool has an account's credentials is looked up for the chosen one alone.
        let mut missing: Vec<AccountId> = Vec::new();
        loop {
            let said = lines.len();
            match self.rank(held, &owner, &missing, lines) {
                Choice::Account(id) if !missing.contains(&id) && !held.pool.credentials().has(&id) => {
                    lines.truncate(said);
                    missing.push(id);
                }
                choice => return Ok(choice),
            }
        }
    }

    /// The choice by owner, pin and ranking.
    fn rank(&self, held: &Held<'_>, owner: &Owner, missing: &[AccountId], lines: &mut Vec<Line>) -> Choice {
        let now = self.env().now;
        let (pool, ledger) = (&held.pool, &held.census.ledger);
        let has = |id: &AccountId| !missing.contains(id);
        let candidates = candidates(pool, &held.usage, ledger, held.live(), held.codex, has);
        let ranking = pick(&candidates, now, self.settings);
        let place = |id: &AccountId| ranking.iter().find(|r| candidates[r.index].account.id == *id);
        let label = |ranked: &Ranked| candidates[ranked.index].account.label.as_str();
        let whose = match owner {
            Owner::Account(id) => place(id),
            _ => None,
        };
        let pin = held.pool.state().pin.as_ref().filter(|_| !self.request.best).and_then(place);
        match pin {
            Some(pin) if pin.usable() => {
                if pin.tier == Tier::Exhausted {
                    lines.push(Line::Wrong(format!(
                        "the pinned account {} is {}; `codex-pool use --auto` unpins",
                        label(pin),
                        pin.explain(now)
                    )));
                }
                if let Some(whose) = whose.filter(|w| w.index != pin.index) {
                    lines.push(goes_on(label(whose), label(pin), "another account is pinned"));
                }
                return Choice::Account(candidates[pin.index].account.id.clone());
            }
            Some(pin) => lines.push(Line::Wrong(format!(
                "the pinned account {} cannot be used ({}); picking another",
                label(pin),
                pin.explain(now)
            ))),
            None => {}
        }
        if let Some(whose) = whose.filter(|w| w.eligible() && w.tier != Tier::Exhausted) {
            lines.push(Line::Verbose(format!("{}, whose session it is", label(whose))));
            return Choice::Account(candidates[whose.index].account.id.clone());
        }
        let Some(best) = ranking.first().filter(|r| r.eligible()) else {
            nobody(&ranking, &candidates, lines, now);
            return Choice::Live;
        };
        match whose {
            Some(whose) if whose.index != best.index => {
                lines.push(goes_on(label(whose), label(best), &whose.explain(now)));
            }
            None if *owner == Owner::Stranger => {
                lines.push(goes_on("an account that is not in the pool", label(best), "unknown here"));
            }
            _ => {}
        }
        if best.tier == Tier::Exhausted {
            let first = ranking.iter().filter_map(|r| match r.reason {
                Reason::Exhausted(Some(at)) => Some((at, label(r))),
                _ => None,
            });
            let when = first.min().map_or_else(String::new, |(at, label)| {
                format!("; {label} resets first, in {}", crate::time::human_duration(at.saturating_sub(now)))
            });
            lines.push(Line::Wrong(format!(
                "every account is at its limit{when}; staying on {}",
                label(best)
            )));
        }
        lines.push(Line::Verbose(format!("{}: {}", label(best), best.explain(now))));
        Choice::Account(candidates[best.index].account.id.clone())
    }
}

/// Somebody else goes on with a session: never silently.
fn goes_on(owner: &str, instead: &str, why: &str) -> Line {
    Line::Wrong(format!("this session belongs to {owner} ({why}); {instead} goes on with it"))
}

/// Says why nobody can be picked, unless the pool is simply empty.
fn nobody(ranking: &[Ranked], candidates: &[Candidate<'_>], lines: &mut Vec<Line>, now: i64) {
    let Some(first) = ranking.first() else { return };
    let account = candidates[first.index].account;
    // An API key or a disabled account that is live is the user's own choice.
    if candidates
        .iter()
        .any(|c| c.live && c.has_credentials && c.allowed && c.account.auth.state == AuthState::Ok)
    {
        return;
    }
    let next = match first.reason {
        Reason::ReauthRequired | Reason::NoCredentials => format!("; `codex-pool reauth {}`", account.label),
        _ => "; see `codex-pool why`".to_owned(),
    };
    lines.push(Line::Wrong(format!(
        "no account can be used ({}: {}){next}",
        account.label,
        first.explain(now)
    )));
}

/// The account that was asked for by name, if it can be used.
fn named(held: &Held<'_>, name: &str) -> Result<AccountId> {
    let account = references::resolve(&held.pool.registry().accounts, name)?;
    usable_by_name(&held.pool, held.codex, account)?;
    Ok(account.id.clone())
}

/// Whether an account that was named can be used: it has credentials that may work, and Codex's
/// configuration allows it here.
///
/// # Errors
/// Why not, and what helps.
pub fn usable_by_name(pool: &Pool, codex: &CodexSettings, account: &Account) -> Result<()> {
    let refuse =
        |why: &str| Error::of(ErrorKind::NoUsableAccount, format!("account {} {why}", account.display()));
    match account.auth.state {
        AuthState::ReauthRequired => {
            return Err(refuse("needs a login").hint(format!("`codex-pool reauth {}`", account.label)));
        }
        AuthState::WorkspaceRemoved => return Err(refuse("was removed from its workspace")),
        AuthState::Ok | AuthState::Expired => {}
    }
    if !pool.credentials().has(&account.id) {
        return Err(
            refuse("has no credentials in the pool").hint(format!("`codex-pool reauth {}`", account.label))
        );
    }
    if !allowed(codex, account) {
        return Err(refuse(
            "is forbidden here by Codex's configuration (forced_login_method, forced_chatgpt_workspace_id)",
        ));
    }
    Ok(())
}

pub(super) fn allowed(codex: &CodexSettings, account: &Account) -> bool {
    match account.kind {
        AccountKind::ApiKey => codex.allows_api_key(),
        AccountKind::Chatgpt => codex.allows_chatgpt(account.account_id.as_deref().unwrap_or("")),
    }
}

/// The accounts as the pick sees them. `live`: who holds the shared seat. `has_credentials`: whether the
/// pool has an account's document.
pub fn candidates<'a>(
    pool: &'a Pool,
    usage: &'a UsageCache,
    ledger: &Ledger,
    live: Option<&AccountId>,
    codex: &CodexSettings,
    has_credentials: impl Fn(&AccountId) -> bool,
) -> Vec<Candidate<'a>> {
    let accounts = pool.registry().accounts.iter();
    accounts
        .map(|account| Candidate {
            account,
            has_credentials: has_credentials(&account.id),
            allowed: allowed(codex, account),
            usage: usage.usage(&account.id),
            sessions: ledger.sessions(&account.id),
            live: live == Some(&account.id),
        })
        .collect()
}

/// Where the databases of a base are: Codex's `sqlite_home`, else CODEX_SQLITE_HOME, else the base.
pub fn databases(env: &Env, codex: &CodexSettings, base: &Base) -> PathBuf {
    let set = codex.sqlite_home.clone().or_else(|| env.get(names::CODEX_SQLITE_HOME).map(PathBuf::from));
    set.and_then(|dir| env.absolute(&dir)).unwrap_or_else(|| base.dir().to_owned())
}
