//! The home of a launch. An account whose file is in use is joined in that home. Otherwise it gets the main home if
//! that is free, else its own home.

use std::ffi::OsStr;

use super::choose::{Choice, may_be_used};
use super::{Launch, Line, Locked, Trouble, databases, refresh_child};
use crate::account::AccountId;
use crate::carry::mark;
use crate::codex::background_server::BackgroundServer;
use crate::config::Parallel;
use crate::error::{Error, ErrorKind};
use crate::homes::in_use::{HomeUser, UserKind};
use crate::homes::{self, AuthFile, CodexHome, HomeContent, Obstacle, elsewhere, own_home};

/// The home of a launch, and how it uses it.
#[derive(Debug, Clone)]
pub(super) struct Placement {
    pub(super) home: CodexHome,
    /// The account in the home. `None`: none of the pool's.
    pub(super) account: Option<AccountId>,
    /// Whether it goes on with a session that a running Codex holds, so that it must reach that one.
    pub(super) attaches: bool,
}

impl Placement {
    fn new(home: CodexHome, account: Option<AccountId>) -> Placement {
        Placement { home, account, attaches: false }
    }
}

/// The reason why a launch does not get the home or the account that was chosen.
struct Refusal<'a> {
    account: &'a AccountId,
    /// What uses the main home, if it is that.
    in_the_way: Option<String>,
    why: String,
}

impl Launch<'_> {
    /// Places the choice in a home and records the launch.
    pub(super) fn place(
        &self,
        locked: &mut Locked<'_>,
        choice: Choice,
        lines: &mut Vec<Line>,
    ) -> Result<Placement, Trouble> {
        let main_home = locked.main_home;
        let id = match choice {
            Choice::Stay(home, account) => {
                self.record(locked, &home, account.as_ref())?;
                return Ok(Placement::new(home, account));
            }
            Choice::Attach(home, account) => {
                self.record(locked, &home, account.as_ref())?;
                return Ok(Placement { home, account, attaches: true });
            }
            Choice::Live => {
                locked.obey_folders(locked.live(), "no account can be picked")?;
                return self.stay(locked, None, lines);
            }
            Choice::Account(id) => id,
        };
        let fixed = self.fixed_main_home(locked);
        let leaves = fixed.is_some() && self.must_leave_main_home(locked);
        if locked.live() == Some(&id) && !leaves && !self.is_moving(locked, main_home) {
            self.record(locked, main_home, Some(&id))?;
            self.renew_main_home(locked)?;
            return Ok(Placement::new(main_home.clone(), Some(id)));
        }
        let own = self.own_home(locked, &id);
        let users_of_own = if own.dir().exists() { self.users_of_home(locked, &own) } else { Vec::new() };
        let mut possible = match self.settings.parallel {
            Parallel::Home => own_home::possible(&locked.pool.paths, main_home, self.env()),
            // If the launch stayed on a forbidden account, Codex would delete the login.
            Parallel::Off if self.live_is_forbidden(locked) => Ok(()),
            Parallel::Off => Err("parallel = \"off\"".to_owned()),
        };
        if let Some(user) = users_of_own.first() {
            let content = homes::reconcile_whole(&locked.lock, &mut locked.pool, &own, self.env().now)?;
            if content.account() == Some(&id) {
                let beside = format!("beside {}", user.describe());
                return self.join_own_home(locked, &own, &id, &beside, false, lines);
            }
            // A process that cannot be seen may use any home, but does not use one that is empty.
            if content != HomeContent::Empty || users_of_own.iter().any(|user| user.pid.is_some()) {
                // The user logged out there, or logged in with another account: the file must not be written.
                possible = Err("a session in its own home has another login now".to_owned());
            }
        }
        let (in_the_way, in_use) = match self.free_main_home(locked)? {
            Some(in_the_way) => (in_the_way, fixed.is_none()),
            None => match self.swap_main_home(locked, &id, lines)? {
                Ok(placement) => return Ok(placement),
                Err(in_the_way) => (in_the_way, false),
            },
        };
        match possible {
            Ok(()) => {
                let beside = match locked.live().map(|live| locked.label_of(live)) {
                    Some(live) if in_use => format!("{live} stays with {in_the_way}"),
                    Some(live) => format!("{live} stays live: {in_the_way}"),
                    None => format!("CODEX_HOME stays as it is: {in_the_way}"),
                };
                self.join_own_home(locked, &own, &id, &beside, users_of_own.is_empty(), lines)
            }
            Err(_) if locked.live() == Some(&id) => self.stay(locked, None, lines),
            Err(why) => {
                let refusal = Refusal { account: &id, in_the_way: Some(in_the_way), why };
                self.stay(locked, Some(refusal), lines)
            }
        }
    }

    /// Puts the account into the main home, which is free. The error is what keeps the home from changing hands all the
    /// same: a Codex that has locked its `auth.json`.
    fn swap_main_home(
        &self,
        locked: &mut Locked<'_>,
        id: &AccountId,
        lines: &mut Vec<Line>,
    ) -> Result<Result<Placement, String>, Trouble> {
        let main_home = locked.main_home;
        let before = locked.live().cloned();
        self.record(locked, main_home, Some(id))?;
        if let Err(error) = self.put_in_main_home(locked, id) {
            self.record(locked, main_home, before.as_ref())?;
            return match error.kind {
                ErrorKind::LockedByCodex | ErrorKind::NotReplaceable => Ok(Err(error.message)),
                _ => Err(error.into()),
            };
        }
        // At a limit, it was said who goes on.
        if self.round.as_ref().is_none_or(|round| round.to.as_ref() != Some(id)) {
            let left = locked.left(id, self.env().now).map_or_else(String::new, |left| format!(" ({left})"));
            let who = locked.label_of(id);
            lines.push(Line::Switched(match &before {
                Some(before) => format!("running as {who} instead of {}{left}", locked.label_of(before)),
                None => format!("running as {who}{left}"),
            }));
        }
        Ok(Ok(Placement::new(main_home.clone(), Some(id.clone()))))
    }

    /// Gives the main home the pool's newer document of the account that it holds. If a Codex has locked the file, it is
    /// about to write a newer one. A file that cannot be replaced stays as it is.
    fn renew_main_home(&self, locked: &mut Locked<'_>) -> Result<(), Trouble> {
        let HomeContent::Account { id, stale: true } = locked.content.clone() else { return Ok(()) };
        match self.put_in_main_home(locked, &id) {
            Err(error) => match error.kind {
                ErrorKind::LockedByCodex | ErrorKind::NotReplaceable => Ok(()),
                _ => Err(error.into()),
            },
            Ok(()) => Ok(()),
        }
    }

    /// Returns the account's own home: the first that no session with another account uses.
    fn own_home(&self, locked: &Locked<'_>, id: &AccountId) -> CodexHome {
        let paths = &locked.pool.paths;
        let taken = |home: &CodexHome| {
            let other = locked.pool.state().home(&home.auth_json()).is_some_and(|there| there.account != *id);
            self.is_moving(locked, home) || other && !self.users_of_home(locked, home).is_empty()
        };
        let mut homes = (1..=own_home::MOST).map(|n| locked.main_home.own_nth(paths, id, n));
        homes.find(|home| !taken(home)).unwrap_or_else(|| locked.main_home.own(paths, id))
    }

    /// Returns whether the server of a home is moving to another account, so that no launch may join it. A move that was
    /// cut off is ended in the background.
    fn is_moving(&self, locked: &Locked<'_>, home: &CodexHome) -> bool {
        let paths = &locked.pool.paths;
        let moving = mark::is_moving(paths, home);
        if moving && mark::is_left(paths, home) {
            let words = [OsStr::new("move"), OsStr::new("--finish"), home.dir().as_os_str()];
            refresh_child::run_admin(self.env(), paths, &words, None);
        }
        moving
    }

    /// Returns what keeps the login of the main home from being replaced.
    fn fixed_main_home(&self, locked: &Locked<'_>) -> Option<Obstacle> {
        let file = AuthFile::find(&locked.pool.paths, locked.main_home.auth_json()).ok()?;
        Obstacle::of(&file)
    }

    /// Returns whether even the account of a main home whose login cannot be replaced gets its own home, where its tokens
    /// can be renewed. A session that uses the main home on the same tokens is joined.
    fn must_leave_main_home(&self, locked: &Locked<'_>) -> bool {
        let stale = matches!(locked.content, HomeContent::Account { stale: true, .. });
        stale || self.users_of_home(locked, locked.main_home).is_empty()
    }

    /// Returns what keeps the main home from changing hands, for a message. `None`: it is free.
    pub(super) fn in_the_way(&self, locked: &Locked<'_>) -> Option<String> {
        match &locked.content {
            HomeContent::Unmanaged(kind) => return Some(format!("CODEX_HOME holds {kind}")),
            HomeContent::Foreign => return Some("CODEX_HOME is another program's".to_owned()),
            HomeContent::Unreadable(why) => return Some(format!("auth.json cannot be read ({why})")),
            HomeContent::BeingWritten => return Some("auth.json is being written".to_owned()),
            HomeContent::Broken | HomeContent::Empty | HomeContent::Account { .. } => {}
        }
        if mark::is_moving(&locked.pool.paths, locked.main_home) {
            return Some("its background server, which is moving to another account".to_owned());
        }
        if let Some(obstacle) = self.fixed_main_home(locked) {
            return Some(obstacle.to_string());
        }
        if locked.processes.incomplete() {
            return Some("the launch ledger cannot be read".to_owned());
        }
        // The ledger is read already. Only if it says nothing, other signs are looked for: other launches wait for the
        // lock meanwhile.
        let launch = locked.processes.launches_in(locked.main_home).into_iter().next();
        let user = launch.or_else(|| self.users_before_change(locked, locked.main_home).into_iter().next());
        user.map(|user| user.describe())
    }

    /// Stops the background server of the main home if it is idle: it is no user, but would go on with the old account
    /// and its file. Then returns what keeps the main home from changing hands.
    pub(super) fn free_main_home(&self, locked: &mut Locked<'_>) -> Result<Option<String>, Trouble> {
        let in_the_way = self.in_the_way(locked);
        let server = BackgroundServer::of_home(locked.main_home.dir());
        let Some(server) = server.filter(|_| in_the_way.is_none()) else { return Ok(in_the_way) };
        let stopped = self.codex().is_some_and(|codex| server.stop(codex));
        // Meanwhile, it may have written the file.
        locked.content = homes::reconcile(&locked.lock, &mut locked.pool, locked.main_home, self.env().now)?;
        if stopped {
            return Ok(self.in_the_way(locked));
        }
        let user = HomeUser { kind: UserKind::BackgroundServer, pid: Some(server.pid), account: None };
        Ok(Some(format!("{}, which does not stop", user.describe())))
    }

    fn users_of_home(&self, locked: &Locked<'_>, home: &CodexHome) -> Vec<HomeUser> {
        let main_home = locked.main_home;
        let databases = databases(self.env(), locked.codex_settings, main_home);
        locked.processes.users_of_home(&locked.pool, main_home, home, &databases)
    }

    fn users_before_change(&self, locked: &Locked<'_>, home: &CodexHome) -> Vec<HomeUser> {
        let main_home = locked.main_home;
        let databases = databases(self.env(), locked.codex_settings, main_home);
        locked.processes.users_before_change(&locked.pool, main_home, home, &databases)
    }

    /// Places the account in its own home, which is brought up to date and gets the newest credentials. `beside`: what
    /// goes on beside it, for a message; `free`: no process uses the own home.
    fn join_own_home(
        &self,
        locked: &mut Locked<'_>,
        own: &CodexHome,
        id: &AccountId,
        beside: &str,
        free: bool,
        lines: &mut Vec<Line>,
    ) -> Result<Placement, Trouble> {
        self.record(locked, own, Some(id))?;
        if let Err(error) = self.prepare_own_home(locked, own, id, free) {
            let refusal = Refusal { account: id, in_the_way: None, why: error.to_string() };
            return self.stay(locked, Some(refusal), lines);
        }
        lines.push(Line::Switched(format!("running as {}; {beside}", locked.label_of(id))));
        Ok(Placement::new(own.clone(), Some(id.clone())))
    }

    fn prepare_own_home(
        &self,
        locked: &mut Locked<'_>,
        own: &CodexHome,
        id: &AccountId,
        free: bool,
    ) -> Result<(), Error> {
        let now = self.env().now;
        let (lock, pool) = (&locked.lock, &mut locked.pool);
        elsewhere::settle(lock, &pool.paths, self.env())?;
        own_home::update(lock, &pool.paths, locked.main_home, own, free, now)?;
        match homes::reconcile_whole(lock, pool, own, now)? {
            HomeContent::Account { id: there, stale: false } if there == *id => return Ok(()),
            HomeContent::Account { .. } | HomeContent::Empty => {}
            HomeContent::Broken => homes::clear_broken(lock, pool, own, now)?,
            HomeContent::Foreign | HomeContent::BeingWritten => {
                return Err(Error::new("the login in its own home is being written"));
            }
            HomeContent::Unmanaged(kind) => return Err(Error::new(format!("its own home holds {kind}"))),
            HomeContent::Unreadable(why) => {
                return Err(Error::new(format!("the login in its own home cannot be read ({why})")));
            }
        }
        homes::put(lock, pool, &locked.processes, own, id, now)
    }

    /// Places the launch in the main home with what it holds. `refusal`: another account was chosen.
    fn stay(
        &self,
        locked: &mut Locked<'_>,
        refusal: Option<Refusal<'_>>,
        lines: &mut Vec<Line>,
    ) -> Result<Placement, Trouble> {
        let main_home = locked.main_home;
        if let Some(refusal) = &refusal {
            let why = match &refusal.in_the_way {
                Some(in_the_way) => format!("{in_the_way}; {}", refusal.why),
                None => refusal.why.clone(),
            };
            let wanted = locked.label_of(refusal.account);
            locked.obey_folders(locked.live(), &format!("there is no home for {wanted} ({why})"))?;
        }
        if self.live_is_forbidden(locked) {
            return self.place_without_account(locked, lines);
        }
        let live = locked.live().cloned();
        if let Some(refusal) = refusal {
            let wanted = locked.label_of(refusal.account);
            let who = live.as_ref().map(|id| locked.label_of(id));
            let detail = match (refusal.in_the_way, who) {
                (Some(user), Some(who)) => format!("{user} still uses {who}'s login ({})", refusal.why),
                (Some(user), None) => format!("{user} still uses the login in CODEX_HOME ({})", refusal.why),
                (None, _) => refusal.why,
            };
            if self.named().is_some() {
                return Err(Trouble::Pool(format!("there is no home for {wanted} ({detail})")));
            }
            let who = who.unwrap_or("the login in CODEX_HOME");
            lines.push(Line::Wrong(format!("running as {who}, not {wanted}: {detail}")));
        }
        self.record(locked, main_home, live.as_ref())?;
        self.renew_main_home(locked)?;
        Ok(Placement::new(main_home.clone(), live))
    }

    /// Returns whether Codex would delete the live login, since its configuration forbids it here.
    fn live_is_forbidden(&self, locked: &Locked<'_>) -> bool {
        !may_be_used(locked, locked.live())
    }

    /// Places the launch in a home without a login, where Codex has nothing to delete.
    fn place_without_account(
        &self,
        locked: &mut Locked<'_>,
        lines: &mut Vec<Line>,
    ) -> Result<Placement, Trouble> {
        let now = self.env().now;
        elsewhere::settle(&locked.lock, &locked.pool.paths, self.env())?;
        let mut n = 1;
        let home = loop {
            let home = locked.main_home.without_account(&locked.pool.paths, n);
            match homes::reconcile(&locked.lock, &mut locked.pool, &home, now)? {
                HomeContent::Empty => break home,
                // The user logged in there, and that session has ended. The login is in the pool now.
                HomeContent::Account { .. } if self.users_before_change(locked, &home).is_empty() => {
                    homes::vacate(&locked.lock, &mut locked.pool, &home, now)?;
                    break home;
                }
                _ => n += 1,
            }
        };
        own_home::update_lenient(&locked.lock, &locked.pool.paths, locked.main_home, &home, now)?;
        self.record(locked, &home, None)?;
        lines.push(Line::Wrong(
            "Codex's configuration allows none of the pool's accounts here; it starts without a login"
                .to_owned(),
        ));
        Ok(Placement::new(home, None))
    }

    fn put_in_main_home(&self, locked: &mut Locked<'_>, id: &AccountId) -> Result<(), Error> {
        let (now, main_home) = (self.env().now, locked.main_home);
        let changes_hands = locked.live() != Some(id);
        let (lock, pool) = (&locked.lock, &mut locked.pool);
        elsewhere::settle_for(lock, pool, main_home, id, self.env())?;
        if locked.content.is_partial() {
            homes::clear_broken(lock, pool, main_home, now)?;
        }
        let put = if changes_hands { homes::put_in_free } else { homes::put };
        put(lock, pool, &locked.processes, main_home, id, now)
    }
}
