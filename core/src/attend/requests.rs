//! The duty that keeps usage fresh and tokens valid: it starts a short-lived `codex-pool refresh` for what is due, in the
//! environment of the launch that it is for. Makes no request itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use super::admin::Admin;
use super::logins::lock_soon;
use super::{Duty, View};
use crate::account::{Account, AccountId, AccountKind, AuthState};
use crate::env::{Env, names};
use crate::error::Result;
use crate::homes::in_use::Processes;
use crate::homes::{self, CodexHome};
use crate::launch::learn_from_logs;
use crate::ledger::LaunchEntry;
use crate::paths::PoolPaths;
use crate::pool::Pool;
use crate::renewal;
use crate::store::path_of_key;

/// How often it looks whether something is due. A launch that begins is looked at at once.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// Session logs are read at most this often while sessions run.
const LEARN_EVERY: Duration = Duration::from_secs(60);
/// The tokens of one account are tried at most this often, seconds.
const RENEW_EVERY: i64 = 300;
/// The most refreshes at once.
const MOST_CHILDREN: usize = 4;

/// Starts refreshes.
pub(super) struct Requests {
    admin: Admin,
    /// The refreshes that run, and the account of each (`None`: all).
    children: Vec<(Option<AccountId>, Child)>,
    next_look: Instant,
    next_learn: Instant,
    /// When a renewal was last started, Unix seconds.
    renewed: BTreeMap<AccountId, i64>,
}

/// A refresh that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    /// Everything that is due, as at a launch.
    All,
    /// The tokens of an account.
    Tokens(AccountId),
    /// The usage of an account.
    Usage(AccountId),
}

impl Duty for Requests {
    fn tick(&mut self, view: &View<'_>) -> Result<()> {
        self.children.retain_mut(|(_, child)| matches!(child.try_wait(), Ok(None)));
        if !view.settings.background_refresh || !(view.began || Instant::now() >= self.next_look) {
            return Ok(());
        }
        self.next_look = Instant::now() + LOOK_EVERY;
        let mut pool = Pool::peek(view.paths)?;
        let in_use = accounts_in_use(view, &pool);
        if Instant::now() >= self.next_learn
            && in_use.iter().any(|(id, _)| pool.usage().poll(id).due(view.settings, view.now))
        {
            self.next_learn = Instant::now() + LEARN_EVERY;
            learn(view)?;
            pool = Pool::peek(view.paths)?;
        }
        let newest = view.launches.iter().filter_map(|launch| launch.entry.as_ref()).chain(&view.ended);
        let newest = newest.max_by_key(|entry| entry.started_at);
        for due in due(view, &pool, &in_use) {
            match &due {
                Due::Tokens(id) if !self.may_renew(id, view.now) => continue,
                Due::Tokens(id) => drop(self.renewed.insert(id.clone(), view.now)),
                Due::All | Due::Usage(_) => {}
            }
            let entry = match &due {
                Due::All => newest,
                Due::Tokens(id) | Due::Usage(id) => in_use.get(id).copied().flatten(),
            };
            self.start(view.paths, &due, entry);
        }
        Ok(())
    }
}

impl Requests {
    /// `env`: the attendant's environment.
    pub(super) fn new(env: &Env, paths: &PoolPaths) -> Requests {
        let now = Instant::now();
        Requests {
            admin: Admin::new(env, paths),
            children: Vec::new(),
            next_look: now,
            next_learn: now,
            renewed: BTreeMap::new(),
        }
    }

    fn may_renew(&self, id: &AccountId, now: i64) -> bool {
        self.renewed.get(id).is_none_or(|at| !(0..RENEW_EVERY).contains(&now.saturating_sub(*at)))
    }

    /// Starts a refresh, unless one for the same runs. `entry`: the launch that it is for.
    fn start(&mut self, paths: &PoolPaths, due: &Due, entry: Option<&LaunchEntry>) {
        let account = match due {
            Due::All => None,
            Due::Tokens(id) | Due::Usage(id) => Some(id.clone()),
        };
        if self.children.len() >= MOST_CHILDREN || self.children.iter().any(|(other, _)| *other == account) {
            return;
        }
        let mut command = self.admin.command(paths);
        command.args(["refresh", "--background"]);
        if matches!(due, Due::Usage(_)) {
            command.arg("--usage");
        }
        command.args(account.as_ref().map(AccountId::as_str));
        if let Some(entry) = entry {
            command.envs(&entry.env);
            if let Some(home) = CodexHome::of_auth_json(paths, &path_of_key(&entry.home)) {
                command.env(names::CODEX_HOME, home.main_home(paths).dir());
            }
            // Codex's settings, which say where the service is, can depend on the folder.
            let folder = entry.cwd.as_deref().map(path_of_key);
            if let Some(folder) = folder.filter(|dir| dir.is_dir()) {
                command.current_dir(folder);
            }
        }
        if let Ok(child) = command.spawn() {
            self.children.push((account, child));
        }
    }
}

/// Returns the accounts in use, and the newest launch of each.
fn accounts_in_use<'a>(view: &View<'a>, pool: &Pool) -> BTreeMap<AccountId, Option<&'a LaunchEntry>> {
    let mut accounts: BTreeMap<AccountId, Option<&LaunchEntry>> = BTreeMap::new();
    for home in &view.homes {
        let record = pool.state().home(&home.auth_json());
        accounts.extend(record.map(|record| (record.account.clone(), None)));
    }
    let mut entries: Vec<&LaunchEntry> =
        view.launches.iter().filter_map(|launch| launch.entry.as_ref()).collect();
    entries.sort_by_key(|entry| entry.started_at);
    for entry in entries {
        // The account of a home may have changed since the launch (`use --force`).
        let record = pool.state().home(Path::new(&path_of_key(&entry.home)));
        let account = record.map(|record| &record.account).or(entry.account.as_ref());
        accounts.extend(account.map(|account| (account.clone(), Some(entry))));
    }
    accounts
}

/// Returns what is due: for a new launch, and to hear of the other machines of a shared pool, everything; else what the accounts in use need.
fn due(view: &View<'_>, pool: &Pool, in_use: &BTreeMap<AccountId, Option<&LaunchEntry>>) -> Vec<Due> {
    let (settings, now) = (view.settings, view.now);
    let mut all = Vec::new();
    let polled = |account: &&Account| {
        account.enabled
            && account.kind == AccountKind::Chatgpt
            && !matches!(account.auth.state, AuthState::ReauthRequired | AuthState::WorkspaceRemoved)
    };
    let may_ask = pool.usage().may_ask(pool.shared(), now);
    let old = |account: &Account| may_ask && pool.usage().poll(&account.id).due(settings, now);
    // In a shared pool a refresh asks the database, too.
    let syncs = pool.shared().is_some() && pool.usage().sync_is_due(now);
    let everything = syncs || view.began && pool.registry().accounts.iter().filter(polled).any(old);
    if everything {
        all.push(Due::All);
    }
    for account in in_use.keys().filter_map(|id| pool.registry().get(id)).filter(polled) {
        let doc = pool.credentials().load(&account.id).ok().flatten();
        let entry = pool.usage().accounts.get(&account.id);
        let may_renew = entry.is_none_or(|entry| entry.may_renew(settings, now));
        if doc.is_some_and(|doc| renewal::is_due(&doc, now)) && may_renew {
            all.push(Due::Tokens(account.id.clone()));
        } else if old(account) && !everything {
            all.push(Due::Usage(account.id.clone()));
        }
    }
    all
}

/// Reads usage from the session logs, which costs no request.
fn learn(view: &View<'_>) -> Result<()> {
    let Some(lock) = lock_soon(view.paths)? else { return Ok(()) };
    let mut pool = homes::open_pool(&lock, view.paths, view.now)?;
    let ledger = Processes::read(None, view.paths, view.now).ledger;
    let mut main_homes: Vec<CodexHome> = view.homes.iter().map(|home| home.main_home(view.paths)).collect();
    main_homes.dedup();
    for main_home in &main_homes {
        learn_from_logs(&mut pool, &lock, &ledger, main_home.dir(), view.now);
    }
    pool.commit(&lock)
}
