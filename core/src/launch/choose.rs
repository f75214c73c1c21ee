//! The account of a launch. Order of authority: asked for by name, the folder, the session that the launch runs inside,
//! the owner of the session that it goes on with, the pin, the pick. Writes nothing.

use std::path::PathBuf;

use super::thread_owner::Owner;
use super::{Launch, Line, Locked, Trouble, folder_rule, nested};
use crate::account::{Account, AccountId, AccountKind, AuthState};
use crate::codex::argv::Target;
use crate::codex::configuration::CodexSettings;
use crate::env::{Env, names};
use crate::error::{Error, ErrorKind, Result};
use crate::folders::FolderRules;
use crate::homes::CodexHome;
use crate::ledger::Ledger;
use crate::pick::{Candidate, Ranked, Reason, Tier, pick};
use crate::pool::Pool;
use crate::references;
use crate::usage::UsageEntry;

/// The account and the home that were chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// This account, in any home.
    Account(AccountId),
    /// The home of the session that the launch runs inside.
    Stay(CodexHome, Option<AccountId>),
    /// The home of the Codex that holds the session which the launch goes on with.
    Attach(CodexHome, Option<AccountId>),
    /// What the main home holds, since no account can be picked.
    Live,
}

impl Launch<'_> {
    pub(super) fn choose(&self, locked: &Locked<'_>, lines: &mut Vec<Line>) -> Result<Choice, Trouble> {
        if let Some(name) = self.named() {
            return named(locked, name, self.env().now).map(Choice::Account).map_err(Trouble::Fails);
        }
        if let Some(to) = self.round.as_ref().and_then(|round| round.to.as_ref())
            && locked.pool.registry().get(to).is_some()
            && locked.pool.credentials().has(to)
            && belongs_here(locked, Some(to))
        {
            // The run before has said who goes on.
            return Ok(Choice::Account(to.clone()));
        }
        if let Some((home, account)) = nested::session(self.env(), locked)
            && belongs_here(locked, account.as_ref())
        {
            lines.push(Line::Verbose("inside a session: its own account".to_owned()));
            if home.main_home(&locked.pool.paths) == *locked.main_home {
                return Ok(Choice::Stay(home, account));
            }
            // The user has set another CODEX_HOME: the account of the session, in a home there.
            if let Some(account) = account {
                return Ok(Choice::Account(account));
            }
        }
        let owner = self.owner(locked);
        if let Owner::Holder(home, account) = &owner
            && may_be_used(locked, account.as_ref())
        {
            // No other account can open it.
            locked.obey_folders(account.as_ref(), "this session is open in a running Codex")?;
            let who = account.as_ref().map_or("an unknown account", |id| locked.label_of(id));
            let there = locked.pool.state().home(&home.auth_json()).map(|record| &record.account);
            let against = account.as_ref().and_then(|id| self.against(locked, id));
            // Another account than the home's, or one that cannot go on for long: that is always said.
            let line = match account.is_some() && account.as_ref() == there && against.is_none() {
                true => Line::Verbose,
                false => Line::Wrong,
            };
            let against = against.map_or_else(String::new, |why| format!(" ({why})"));
            lines.push(line(format!(
                "this session is open in a running Codex, which answers as {who}{against}"
            )));
            return Ok(Choice::Attach(home.clone(), account.clone()));
        }
        // Only for the chosen account it is looked up whether the pool has its credentials.
        let mut missing: Vec<AccountId> = Vec::new();
        loop {
            let said = lines.len();
            match self.rank(locked, &owner, &missing, lines) {
                Choice::Account(id) if !missing.contains(&id) && !locked.pool.credentials().has(&id) => {
                    lines.truncate(said);
                    missing.push(id);
                }
                choice => {
                    if let Choice::Account(id) = &choice
                        && self.call.target == Target::Picked
                        && locked.pool.registry().accounts.len() > 1
                    {
                        lines.push(Line::Switched(format!(
                            "the session you choose will run as {}",
                            locked.label_of(id)
                        )));
                    }
                    return Ok(choice);
                }
            }
        }
    }

    /// Returns why this account would not be picked now, even if it were the only one.
    fn against(&self, locked: &Locked<'_>, id: &AccountId) -> Option<String> {
        let (pool, ledger, now) = (&locked.pool, &locked.processes.ledger, self.env().now);
        let has = |id: &AccountId| pool.credentials().has(id);
        let mut alone =
            candidates(pool, ledger, locked.live(), locked.codex_settings, &locked.rules, has, now);
        alone.retain(|candidate| candidate.account.id == *id);
        let ranking = pick(&alone, now, self.settings);
        let against = |r: &&Ranked| !r.eligible() || r.tier == Tier::Exhausted;
        ranking.first().filter(against).map(|ranked| ranked.explain(now))
    }

    /// Chooses by owner, pin and ranking. `missing`: accounts without credentials.
    fn rank(
        &self,
        locked: &Locked<'_>,
        owner: &Owner,
        missing: &[AccountId],
        lines: &mut Vec<Line>,
    ) -> Choice {
        let now = self.env().now;
        let (pool, ledger) = (&locked.pool, &locked.processes.ledger);
        let has = |id: &AccountId| !missing.contains(id);
        let candidates =
            candidates(pool, ledger, locked.live(), locked.codex_settings, &locked.rules, has, now);
        let ranking = pick(&candidates, now, self.settings);
        let place = |id: &AccountId| ranking.iter().find(|r| candidates[r.index].account.id == *id);
        let label = |ranked: &Ranked| &*candidates[ranked.index].account.label;
        let whose = match owner {
            Owner::Account(id) | Owner::Perhaps(id) => place(id),
            _ => None,
        };
        let theirs = |ranked: &Ranked, why: &str| format!("{}'s ({why})", label(ranked));
        let goes_on = |owner: &str, instead: &str| match self.call.target {
            Target::Picked => Line::Wrong(format!("the last session here is {owner}")),
            Target::Last => Line::Wrong(format!("the last session here is {owner}; continuing as {instead}")),
            _ => Line::Wrong(format!("this session is {owner}; continuing as {instead}")),
        };
        let pin = locked.pool.state().pin.as_ref().filter(|_| !self.request.best).and_then(place);
        match pin {
            Some(pin) if pin.usable() => {
                if pin.tier == Tier::Exhausted {
                    let other = ranking.first().filter(|r| matches!(r.tier, Tier::Room | Tier::LessRoom));
                    let other = other.map_or_else(String::new, |r| format!("; {} has room", label(r)));
                    lines.push(Line::Wrong(format!(
                        "the pinned account {} is {}{other}; `codex-pool use --auto` unpins",
                        label(pin),
                        pin.explain(now)
                    )));
                }
                if let Some(whose) = whose.filter(|w| w.index != pin.index) {
                    lines.push(goes_on(&theirs(whose, "another account is pinned"), label(pin)));
                }
                return Choice::Account(candidates[pin.index].account.id.clone());
            }
            Some(pin) if pin.reason == Reason::Elsewhere => lines.push(Line::Verbose(format!(
                "the pinned account {} is not for this folder ({})",
                label(pin),
                pin.explain(now)
            ))),
            Some(pin) => lines.push(Line::Wrong(format!(
                "the pinned account {} cannot be used ({}); picking another",
                label(pin),
                pin.explain(now)
            ))),
            None => {}
        }
        if let Some(whose) = whose.filter(|w| w.eligible() && w.tier != Tier::Exhausted) {
            lines.push(match owner {
                Owner::Perhaps(_) if ranking.first().is_none_or(|best| best.index != whose.index) => {
                    Line::Wrong(format!(
                        "this session records no account; continuing as {}, who last used this folder",
                        label(whose)
                    ))
                }
                _ => Line::Verbose(format!("{}, whose session it is", label(whose))),
            });
            return Choice::Account(candidates[whose.index].account.id.clone());
        }
        let best = ranking.first().filter(|r| r.eligible());
        let instead = match best {
            Some(best) => label(best),
            None => locked.live().map_or("the login in CODEX_HOME", |id| locked.label_of(id)),
        };
        match (whose, owner) {
            (Some(whose), _) if label(whose) != instead => {
                lines.push(goes_on(&theirs(whose, &whose.explain(now)), instead));
            }
            (None, Owner::NotInPool) => {
                lines.push(goes_on("of an account that is not in the pool", instead));
            }
            (None, Owner::Unknown) if candidates.len() > 1 => {
                lines.push(Line::Wrong(format!("this session records no account; continuing as {instead}")))
            }
            (None, Owner::NotFound) if candidates.len() > 1 => {
                lines.push(Line::Wrong(format!("no such session was found here; continuing as {instead}")))
            }
            _ => {}
        }
        let Some(best) = best else {
            lines.extend(none_usable(&ranking, &candidates, now));
            return Choice::Live;
        };
        if best.tier == Tier::Exhausted {
            let first = ranking.iter().filter_map(|r| match r.reason {
                Reason::Exhausted(Some(at)) | Reason::ModelExhausted(Some(at)) => Some((at, label(r))),
                _ => None,
            });
            let when = first.min().map_or_else(String::new, |(at, label)| {
                format!("; {label} resets first, in {}", crate::time::human_duration(at.saturating_sub(now)))
            });
            let which = match locked.rules.folder() {
                Some(folder) => format!("every account of {folder}"),
                None => "every account".to_owned(),
            };
            lines.push(Line::Wrong(format!("{which} is at its limit{when}; staying on {}", label(best))));
        }
        lines.push(Line::Verbose(format!("{}: {}", label(best), best.explain(now))));
        Choice::Account(candidates[best.index].account.id.clone())
    }
}

/// Returns whether Codex leaves the login of this account alone here. A login that is not the pool's is the user's own
/// affair.
pub(super) fn may_be_used(locked: &Locked<'_>, id: Option<&AccountId>) -> bool {
    let account = id.and_then(|id| locked.pool.registry().get(id));
    account.is_none_or(|account| allowed(locked.codex_settings, account))
}

/// Returns whether folders and Codex's configuration leave a launch on this account.
fn belongs_here(locked: &Locked<'_>, id: Option<&AccountId>) -> bool {
    may_be_used(locked, id) && locked.against_here(id).is_none()
}

/// Returns the line that says why no account can be picked. An empty pool needs none.
fn none_usable(ranking: &[Ranked], candidates: &[Candidate<'_>], now: i64) -> Option<Line> {
    let first = ranking.first()?;
    let account = candidates[first.index].account;
    // An API key or a disabled account that is live is the user's own choice.
    let works = |account: &Account| account.auth.state == AuthState::Ok && !account.access_ended(now);
    if candidates.iter().any(|c| c.live && c.has_credentials && c.allowed && works(c.account)) {
        return None;
    }
    let next = match first.reason {
        // A runner takes no login.
        Reason::ReauthRequired | Reason::NoCredentials if !account.renewed_by_members() => {
            format!("; `codex-pool reauth {}`", account.shell_ref())
        }
        _ => "; see `codex-pool why`".to_owned(),
    };
    let why = first.explain(now);
    Some(Line::Wrong(format!("no account can be used ({}: {why}){next}", account.label)))
}

/// Returns the account that was asked for by name.
fn named(locked: &Locked<'_>, name: &str, now: i64) -> Result<AccountId> {
    let account = references::resolve(&locked.pool.registry().accounts, name)?;
    usable_by_name(&locked.pool, locked.codex_settings, &locked.rules, account, now)?;
    Ok(account.id.clone())
}

/// Checks that an account which was named can be used: it has credentials that may work, and neither Codex's
/// configuration nor a folder rule forbids it here.
///
/// # Errors
/// The reason why not, and the next step.
pub fn usable_by_name(
    pool: &Pool,
    codex: &CodexSettings,
    rules: &FolderRules,
    account: &Account,
    now: i64,
) -> Result<()> {
    let error = |kind: ErrorKind, why: &str| Error::of(kind, format!("{} {why}", account.display()));
    let refuse = |why: &str| {
        let hint = account.remedy(now).unwrap_or_else(|| "see `codex-pool why`".to_owned());
        error(ErrorKind::NoUsableAccount, why).hint(hint)
    };
    let login = |why: &str| {
        error(ErrorKind::LoginNeeded, why).hint(format!("`codex-pool reauth {}`", account.shell_ref()))
    };
    match account.auth.state {
        AuthState::ReauthRequired => return Err(login("needs a login")),
        AuthState::WorkspaceRemoved => return Err(refuse("was removed from its workspace")),
        AuthState::Deactivated => return Err(refuse("was deactivated by the service")),
        // A firewall's word may be behind a refusal. Codex finds out.
        AuthState::Ok | AuthState::Expired | AuthState::Refused => {}
    }
    if account.access_ended(now) {
        let refused = login(&format!("cannot be used: {}", account.explain_end()));
        return Err(refused.hint(account.remedy(now).unwrap_or_default()));
    }
    if !pool.credentials().has(&account.id) {
        return Err(login("has no credentials in the pool"));
    }
    if !allowed(codex, account) {
        return Err(refuse(
            "is forbidden here by Codex's configuration (forced_login_method, forced_chatgpt_workspace_id)",
        ));
    }
    match rules.objection(&account.id) {
        Some(why) => Err(refuse(&format!("may not be used here: {why}")).hint(format!(
            "`codex-pool set {} --folder` allows other folders; {}",
            account.shell_ref(),
            folder_rule::PAST
        ))),
        None => Ok(()),
    }
}

/// Returns whether Codex's configuration allows an account here.
fn allowed(codex: &CodexSettings, account: &Account) -> bool {
    match account.kind {
        AccountKind::ApiKey => codex.allows_api_key(),
        AccountKind::Chatgpt => codex.allows_chatgpt(account.account_id.as_deref().unwrap_or("")),
    }
}

/// Returns the accounts as the pick sees them. `live`: the account in the main home. `rules`: of the folder where the
/// launch works. `has_credentials`: whether the pool has the document of an account. Sessions are those of all machines
/// that share the pool.
pub fn candidates<'a>(
    pool: &'a Pool,
    ledger: &Ledger,
    live: Option<&AccountId>,
    codex: &'a CodexSettings,
    rules: &'a FolderRules,
    has_credentials: impl Fn(&AccountId) -> bool,
    now: i64,
) -> Vec<Candidate<'a>> {
    let candidate = |account: &'a Account| Candidate {
        account,
        usage: pool.usage().usage(&account.id),
        failed: pool.usage().accounts.get(&account.id).is_some_and(UsageEntry::last_answer_failed),
        model: codex.model.as_deref(),
        has_credentials: has_credentials(&account.id),
        allowed: allowed(codex, account),
        elsewhere: rules.objection(&account.id),
        sessions: ledger.sessions(&account.id) + pool.usage().sessions_elsewhere(&account.id, now),
        live: live == Some(&account.id),
    };
    pool.registry().accounts.iter().map(candidate).collect()
}

/// Returns the folder of the databases of a main home: Codex's `sqlite_home`, else CODEX_SQLITE_HOME, else the main
/// home.
pub fn databases(env: &Env, codex: &CodexSettings, main_home: &CodexHome) -> PathBuf {
    let set = codex.sqlite_home.clone().or_else(|| env.get(names::CODEX_SQLITE_HOME).map(PathBuf::from));
    set.and_then(|dir| env.absolute(&dir)).unwrap_or_else(|| main_home.dir().to_owned())
}
