//! Where: the home of a launch. An account that sits somewhere is joined there; else it takes the
//! main home if that is free, else a home of its own.

use std::ffi::OsString;
use std::path::Path;

use super::choose::{Choice, label_of, may_be_used};
use super::{Launch, Line, Locked, Trouble, databases};
use crate::account::AccountId;
use crate::codex::background_server::BackgroundServer;
use crate::codex::configuration::CredentialsStore;
use crate::codex::probe;
use crate::config::Parallel;
use crate::env::names;
use crate::error::Error;
use crate::homes::in_use::{HomeUser, UserKind};
use crate::homes::{self, CodexHome, HomeContent};
use crate::ledger::{self, LaunchEntry};
use crate::paths::PoolPaths;
use crate::store::path_key;

/// Where the launch sits.
#[derive(Debug, Clone)]
pub(super) struct Placement {
    /// The home.
    pub(super) home: CodexHome,
    /// Who is in it; `None` if nobody of the pool is.
    pub(super) account: Option<AccountId>,
    /// It goes on with a session that a Codex there holds, so it must reach that one.
    pub(super) attaches: bool,
}

impl Launch<'_> {
    /// Homes the choice and enters the launch in the ledger. The entry comes first: without it, the
    /// next launch could swap the home away under us.
    pub(super) fn take_home(
        &self,
        held: &mut Locked<'_>,
        choice: Choice,
        lines: &mut Vec<Line>,
    ) -> Result<Placement, Trouble> {
        let shared = held.main_home.clone();
        let id = match choice {
            Choice::Stay(codex_home, account) => {
                self.record(held, &codex_home, account.as_ref())?;
                return Ok(Placement { home: codex_home, account, attaches: false });
            }
            Choice::Attach(codex_home, account) => {
                self.record(held, &codex_home, account.as_ref())?;
                return Ok(Placement { home: codex_home, account, attaches: true });
            }
            Choice::Live => return self.stay(held, None, lines),
            Choice::Account(id) => id,
        };
        if held.live() == Some(&id) {
            self.record(held, &shared, Some(&id))?;
            if matches!(held.shared, HomeContent::Account { stale: true, .. }) {
                self.put(held, &shared, &id)?;
            }
            return Ok(Placement { home: shared, account: Some(id), attaches: false });
        }
        let home = held.main_home.own(&held.pool.paths, &id);
        let at_home = if home.dir().exists() { self.users_of_home(held, &home) } else { Vec::new() };
        let mut possible = match self.settings.parallel {
            Parallel::Home => {
                homes::own_home::possible(&held.pool.paths, held.main_home, &self.env().temp_dir())
            }
            // Staying would make Codex delete the live login.
            Parallel::Off if self.live_is_forbidden(held) => Ok(()),
            Parallel::Off => Err("parallel = \"off\"".to_owned()),
        };
        if let Some(there) = at_home.first() {
            let held_there = homes::reconcile_whole(held.lock, &mut held.pool, &home, self.env().now)?;
            if held_there.account() == Some(&id) {
                let why = format!("it is in use there: {}", there.describe());
                return self.join_home(held, &home, &id, &why, false, lines);
            }
            // Where nobody can be seen, "somebody" may be in any home, and is in none that is empty.
            if held_there != HomeContent::Empty || at_home.iter().any(|user| user.pid.is_some()) {
                // Somebody logged out, or in as another, in the session there: its file is no longer ours to write.
                possible = Err("a session in its own home has another login now".to_owned());
            }
        }
        let Some(in_the_way) = self.free_main_home(held)? else {
            let before = held.live().cloned();
            self.record(held, &shared, Some(&id))?;
            if let Err(trouble) = self.put(held, &shared, &id) {
                // It goes on with what is there.
                self.record(held, &shared, before.as_ref())?;
                return Err(trouble);
            }
            lines.push(Line::Switched(switched(held, before.as_ref(), &id)));
            return Ok(Placement { home: shared, account: Some(id), attaches: false });
        };
        match possible {
            Ok(()) => {
                let who = held.live().map_or("CODEX_HOME", |live| label_of(held, live));
                let why = format!("{who} is in use: {in_the_way}");
                self.join_home(held, &home, &id, &why, at_home.is_empty(), lines)
            }
            Err(why) => self.stay(held, Some((&id, in_the_way, why)), lines),
        }
    }

    /// What keeps the main home from changing hands, for a message; `None` if it is free.
    pub(super) fn in_the_way(&self, held: &Locked<'_>) -> Option<String> {
        match &held.shared {
            HomeContent::Unmanaged(kind) => return Some(format!("CODEX_HOME holds {kind}")),
            HomeContent::Unreadable(why) => return Some(format!("auth.json cannot be read ({why})")),
            HomeContent::BeingWritten => return Some("auth.json is being written".to_owned()),
            HomeContent::Broken | HomeContent::Empty | HomeContent::Account { .. } => {}
        }
        if held.processes.blind() {
            return Some("the launch ledger cannot be read".to_owned());
        }
        // Where launches are known to sit, nobody else need be looked for: others wait for the lock meanwhile.
        let shared = held.main_home.clone();
        let launches = held.processes.launches_in(&shared);
        let first =
            launches.into_iter().next().or_else(|| self.users_of_home(held, &shared).into_iter().next());
        first.map(|user| user.describe())
    }

    fn users_of_home(&self, held: &Locked<'_>, codex_home: &CodexHome) -> Vec<HomeUser> {
        held.processes.users_of_home(
            &held.pool,
            held.main_home,
            codex_home,
            &databases(self.env(), held.codex, held.main_home),
        )
    }

    /// The account's own home: brought up to date, with the newest credentials in it. `why` it is not the
    /// main home, for a message; `free`: nobody is in the home.
    fn join_home(
        &self,
        held: &mut Locked<'_>,
        home: &CodexHome,
        id: &AccountId,
        why: &str,
        free: bool,
        lines: &mut Vec<Line>,
    ) -> Result<Placement, Trouble> {
        let now = self.env().now;
        self.record(held, home, Some(id))?;
        let updated = homes::own_home::update(held.lock, &held.pool.paths, held.main_home, home, free, now);
        let ready = updated.and_then(|()| {
            match homes::reconcile_whole(held.lock, &mut held.pool, home, now)? {
                HomeContent::Account { id: there, stale: false } if there == *id => return Ok(()),
                HomeContent::Account { .. } | HomeContent::Empty => {}
                HomeContent::Broken => {
                    homes::clear_broken(held.lock, &mut held.pool, home, now)?;
                }
                HomeContent::BeingWritten => {
                    return Err(Error::new("the login in its own home is being written"));
                }
                HomeContent::Unmanaged(kind) => return Err(Error::new(format!("its own home holds {kind}"))),
                HomeContent::Unreadable(why) => {
                    return Err(Error::new(format!("the login in its own home cannot be read ({why})")));
                }
            }
            homes::put(held.lock, &mut held.pool, &held.processes, home, id, now)
        });
        if let Err(error) = ready {
            return self.stay(held, Some((id, String::new(), error.to_string())), lines);
        }
        lines.push(Line::Switched(format!("{}, in a home of its own, since {why}", label_of(held, id))));
        Ok(Placement { home: home.clone(), account: Some(id.clone()), attaches: false })
    }

    /// Stays in the main home with whatever is there, and says so if somebody else was meant.
    fn stay(
        &self,
        held: &mut Locked<'_>,
        instead_of: Option<(&AccountId, String, String)>,
        lines: &mut Vec<Line>,
    ) -> Result<Placement, Trouble> {
        let shared = held.main_home.clone();
        let live = held.live().cloned();
        if self.live_is_forbidden(held) {
            return self.empty_home(held, lines);
        }
        if let Some((id, in_the_way, why)) = instead_of {
            let wanted = label_of(held, id);
            let detail =
                [in_the_way, why].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join("; ");
            if self.named().is_some() {
                return Err(Trouble::Pool(format!("{wanted} cannot be seated ({detail})")));
            }
            let who = live.as_ref().map_or("the login in CODEX_HOME", |id| label_of(held, id));
            lines.push(Line::Wrong(format!("staying on {who} instead of {wanted}: {detail}")));
        }
        self.record(held, &shared, live.as_ref())?;
        if let (Some(id), HomeContent::Account { stale: true, .. }) = (&live, &held.shared) {
            self.put(held, &shared, id)?;
        }
        Ok(Placement { home: shared, account: live, attaches: false })
    }

    /// Codex deletes a login that its configuration forbids here.
    fn live_is_forbidden(&self, held: &Locked<'_>) -> bool {
        !may_be_used(held, held.live())
    }

    /// A home without a login, so that there is nothing to delete.
    fn empty_home(&self, held: &mut Locked<'_>, lines: &mut Vec<Line>) -> Result<Placement, Trouble> {
        let now = self.env().now;
        let mut n = 1;
        let codex_home = loop {
            let codex_home = held.main_home.without_account(&held.pool.paths, n);
            match homes::reconcile(held.lock, &mut held.pool, &codex_home, now)? {
                HomeContent::Empty => break codex_home,
                // Somebody logged in there, and is gone. The pool has it now; it is forbidden as well, or was picked.
                HomeContent::Account { .. } if self.users_of_home(held, &codex_home).is_empty() => {
                    homes::vacate(held.lock, &mut held.pool, &codex_home, now)?;
                    break codex_home;
                }
                _ => n += 1,
            }
        };
        homes::own_home::update_special(held.lock, &held.pool.paths, held.main_home, &codex_home, now)?;
        self.record(held, &codex_home, None)?;
        lines.push(Line::Wrong(
            "Codex's configuration allows none of the pool's accounts here; it starts without a login"
                .to_owned(),
        ));
        Ok(Placement { home: codex_home, account: None, attaches: false })
    }

    fn put(&self, held: &mut Locked<'_>, codex_home: &CodexHome, id: &AccountId) -> Result<(), Trouble> {
        let now = self.env().now;
        if matches!(held.shared, HomeContent::BeingWritten | HomeContent::Broken) && !codex_home.is_own() {
            homes::clear_broken(held.lock, &mut held.pool, codex_home, now)?;
        }
        Ok(homes::put(held.lock, &mut held.pool, &held.processes, codex_home, id, now)?)
    }

    pub(super) fn record(
        &self,
        held: &Locked<'_>,
        codex_home: &CodexHome,
        account: Option<&AccountId>,
    ) -> Result<(), Trouble> {
        let Some(me) = &held.processes.me else {
            return Err(Trouble::Pool("the system does not tell which processes run".to_owned()));
        };
        Ok(ledger::record(&held.pool.paths, me, &self.entry(codex_home, account))?)
    }

    /// Enters a launch that goes on without the pool, so that nobody swaps its home away. Where even that is
    /// impossible, Codex starts all the same.
    pub(super) fn record_untouched(&self, paths: &PoolPaths) {
        let (Ok(me), Ok(main_home)) =
            (crate::process::ProcessId::of_self(), CodexHome::main_of_env(self.env(), paths))
        else {
            return;
        };
        let inherited = self.env().get(names::CODEX_HOME).map(Path::new);
        let home = inherited.filter(|dir| homes::main_home_of(paths, dir).is_some());
        let codex_home = home.and_then(|dir| CodexHome::of_auth_json(paths, &dir.join("auth.json")));
        if paths.root().is_dir() {
            let _ = ledger::record(
                paths,
                &me,
                &self.entry(&codex_home.unwrap_or_else(|| main_home.clone()), None),
            );
        }
    }

    fn entry(&self, codex_home: &CodexHome, account: Option<&AccountId>) -> LaunchEntry {
        let command = match &self.request.program {
            None => self.call.describe().to_owned(),
            Some(program) => program.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        LaunchEntry {
            account: account.cloned(),
            home: path_key(&codex_home.auth_json()),
            cwd: self.env().cwd.as_deref().map(path_key),
            started_at: self.env().now,
            command,
            attached: self.is_codex && self.call.attaches(),
        }
    }

    /// Enters again that this launch keeps off the background server: an option of ours does that.
    pub(super) fn record_detached(&self, held: &Locked<'_>, seated: &Placement) {
        let entry = LaunchEntry { attached: false, ..self.entry(&seated.home, seated.account.as_ref()) };
        if let Some(me) = &held.processes.me {
            // It is there already; without this it only counts as one that a server takes along.
            let _ = ledger::record(&held.pool.paths, me, &entry);
        }
    }

    /// What keeps the main home from changing hands, once its idle background server is stopped: that is
    /// in nobody's use, but would go on with the old account, and with its file.
    pub(super) fn free_main_home(&self, held: &mut Locked<'_>) -> Result<Option<String>, Trouble> {
        let in_the_way = self.in_the_way(held);
        let dir = held.main_home.dir();
        let Some(server) = BackgroundServer::of_home(dir).filter(|_| in_the_way.is_none()) else {
            return Ok(in_the_way);
        };
        let own = self.request.program.is_none().then_some(self.request.own).flatten();
        let stopped =
            crate::codex::find::find(self.env(), self.settings, own).is_ok_and(|codex| server.stop(&codex));
        // That took its time, in which it may have written.
        held.shared = homes::reconcile(held.lock, &mut held.pool, held.main_home, self.env().now)?;
        if stopped {
            return Ok(self.in_the_way(held));
        }
        let stays = HomeUser { kind: UserKind::BackgroundServer, pid: Some(server.pid), account: None };
        Ok(Some(format!("{}, which does not stop", stays.describe())))
    }

    /// The arguments that the shim adds, and no others.
    pub(super) fn extra_args(&self, held: &mut Locked<'_>, seated: &Placement) -> Vec<OsString> {
        let home = seated.home.dir() != held.main_home.dir();
        let mut extra: Vec<OsString> = Vec::new();
        let store = held.codex.cli_auth_credentials_store.unwrap_or(CredentialsStore::File);
        if store != CredentialsStore::File && !held.codex.store_is_enforced {
            extra.extend(["-c".into(), "cli_auth_credentials_store=\"file\"".into()]);
        }
        if home && let Some(hooks) = held.codex.hooks_override(held.main_home.dir(), seated.home.dir()) {
            extra.extend(["-c".into(), hooks.into()]);
        }
        if extra.is_empty() && !seated.attaches && self.call.attaches() && self.wrong_server(held, seated) {
            extra.push("--no-daemon".into());
        }
        extra
    }

    /// Whether the home's background server answers as somebody else, or nobody knows as whom, and
    /// the installed Codex can do without it.
    fn wrong_server(&self, held: &mut Locked<'_>, seated: &Placement) -> bool {
        let Some(server) = BackgroundServer::of_home(seated.home.dir()) else { return false };
        let memory = held.pool.state().home(&seated.home.auth_json());
        let serves = memory.and_then(|memory| homes::server_account(memory, &server));
        if serves.is_some() && serves == seated.account {
            return false;
        }
        self.supports_no_daemon(held)
    }

    fn supports_no_daemon(&self, held: &mut Locked<'_>) -> bool {
        let Ok(codex) = crate::codex::find::find(self.env(), self.settings, self.request.own) else {
            return false;
        };
        let key = probe::identity(&codex);
        if let Some(known) = key.as_ref().and_then(|key| held.pool.state().codex.get(key)) {
            return known.no_daemon;
        }
        let Some(found) = probe::ask(&codex) else { return false };
        let no_daemon = found.no_daemon;
        if let Some(key) = key {
            // One installation at a time: an older one's answer is of no more use.
            held.pool.state_mut().codex = [(key, found)].into();
        }
        no_daemon
    }
}

fn switched(held: &Locked<'_>, before: Option<&AccountId>, id: &AccountId) -> String {
    match before {
        Some(before) => format!("{} (was {})", label_of(held, id), label_of(held, before)),
        None => label_of(held, id).to_owned(),
    }
}
