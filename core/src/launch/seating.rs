//! Where: the seat of a launch. An account that sits somewhere is joined there; else it takes the
//! shared seat if that is free, else a home of its own.

use std::ffi::OsString;
use std::path::Path;

use super::choose::{Choice, label_of, may_be_used};
use super::ledger::{self, Entry};
use super::{Held, Launch, Line, Trouble, databases};
use crate::account::AccountId;
use crate::codex::layers::CredentialsStore;
use crate::codex::{daemon, probe};
use crate::config::Parallel;
use crate::env::names;
use crate::error::Error;
use crate::paths::PoolPaths;
use crate::seats::occupants::{self, Kind, Occupant};
use crate::seats::{self, Base, Holding, Seat};
use crate::store::path_key;

/// Where the launch sits.
#[derive(Debug, Clone)]
pub(super) struct Seated {
    /// The seat.
    pub(super) seat: Seat,
    /// Who is in it; `None` if nobody of the pool is.
    pub(super) account: Option<AccountId>,
    /// It goes on with a session that a Codex there holds, so it must reach that one.
    pub(super) attaches: bool,
}

impl Launch<'_> {
    /// Seats the choice and enters the launch in the ledger. The entry comes first: without it, the
    /// next launch could swap the seat away under us.
    pub(super) fn take_seat(
        &self,
        held: &mut Held<'_>,
        choice: Choice,
        lines: &mut Vec<Line>,
    ) -> Result<Seated, Trouble> {
        let shared = held.base.shared();
        let id = match choice {
            Choice::Stay(seat, account) => {
                self.enter(held, &seat, account.as_ref())?;
                return Ok(Seated { seat, account, attaches: false });
            }
            Choice::Attach(seat, account) => {
                self.enter(held, &seat, account.as_ref())?;
                return Ok(Seated { seat, account, attaches: true });
            }
            Choice::Live => return self.stay(held, None, lines),
            Choice::Account(id) => id,
        };
        if held.live() == Some(&id) {
            self.enter(held, &shared, Some(&id))?;
            if matches!(held.shared, Holding::Account { stale: true, .. }) {
                self.put(held, &shared, &id)?;
            }
            return Ok(Seated { seat: shared, account: Some(id), attaches: false });
        }
        let home = held.base.home(&held.pool.paths, &id);
        let at_home = if home.dir().exists() { self.occupants(held, &home) } else { Vec::new() };
        let mut possible = match self.settings.parallel {
            Parallel::Home => seats::home::possible(&held.pool.paths, held.base, &self.env().temp_dir()),
            // Staying would make Codex delete the live login.
            Parallel::Off if self.live_is_forbidden(held) => Ok(()),
            Parallel::Off => Err("parallel = \"off\"".to_owned()),
        };
        if let Some(there) = at_home.first() {
            let held_there = seats::reconcile_whole(held.lock, &mut held.pool, &home, self.env().now)?;
            if held_there.account() == Some(&id) {
                let why = format!("it is in use there: {}", there.describe());
                return self.join_home(held, &home, &id, &why, false, lines);
            }
            // Where nobody can be seen, "somebody" may be in any seat, and is in none that is empty.
            if held_there != Holding::Empty || at_home.iter().any(|occupant| occupant.pid.is_some()) {
                // Somebody logged out, or in as another, in the session there: its file is no longer ours to write.
                possible = Err("a session in its own home has another login now".to_owned());
            }
        }
        let Some(in_the_way) = self.free_shared_seat(held)? else {
            let before = held.live().cloned();
            self.enter(held, &shared, Some(&id))?;
            if let Err(trouble) = self.put(held, &shared, &id) {
                // It goes on with what is there.
                self.enter(held, &shared, before.as_ref())?;
                return Err(trouble);
            }
            lines.push(Line::Switched(switched(held, before.as_ref(), &id)));
            return Ok(Seated { seat: shared, account: Some(id), attaches: false });
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

    /// What keeps the shared seat from changing hands, for a message; `None` if it is free.
    pub(super) fn in_the_way(&self, held: &Held<'_>) -> Option<String> {
        match &held.shared {
            Holding::Unmanaged(kind) => return Some(format!("CODEX_HOME holds {kind}")),
            Holding::Unreadable(why) => return Some(format!("auth.json cannot be read ({why})")),
            Holding::Broken { settled: false } => return Some("auth.json is being written".to_owned()),
            Holding::Broken { settled: true } | Holding::Empty | Holding::Account { .. } => {}
        }
        if held.census.blind() {
            return Some("the launch ledger cannot be read".to_owned());
        }
        // Where launches are known to sit, nobody else need be looked for: others wait for the lock meanwhile.
        let shared = held.base.shared();
        let launches = held.census.launches_in(&shared);
        let first = launches.into_iter().next().or_else(|| self.occupants(held, &shared).into_iter().next());
        first.map(|occupant| occupant.describe())
    }

    fn occupants(&self, held: &Held<'_>, seat: &Seat) -> Vec<Occupant> {
        held.census.occupants(&held.pool, held.base, seat, &databases(self.env(), held.codex, held.base))
    }

    /// The account's own home: brought up to date, with the newest credentials in it. `why` it is not the
    /// shared seat, for a message; `free`: nobody is in the home.
    fn join_home(
        &self,
        held: &mut Held<'_>,
        home: &Seat,
        id: &AccountId,
        why: &str,
        free: bool,
        lines: &mut Vec<Line>,
    ) -> Result<Seated, Trouble> {
        let now = self.env().now;
        self.enter(held, home, Some(id))?;
        let updated = seats::home::update(held.lock, &held.pool.paths, held.base, home, free, now);
        let ready = updated.and_then(|()| {
            match seats::reconcile_whole(held.lock, &mut held.pool, home, now)? {
                Holding::Account { id: there, stale: false } if there == *id => return Ok(()),
                Holding::Account { .. } | Holding::Empty => {}
                Holding::Broken { settled: true } => {
                    seats::clear_broken(held.lock, &mut held.pool, home, now)?;
                }
                Holding::Broken { settled: false } => {
                    return Err(Error::new("the login in its own home is being written"));
                }
                Holding::Unmanaged(kind) => return Err(Error::new(format!("its own home holds {kind}"))),
                Holding::Unreadable(why) => {
                    return Err(Error::new(format!("the login in its own home cannot be read ({why})")));
                }
            }
            seats::place(held.lock, &mut held.pool, &held.census, home, id, now)
        });
        if let Err(error) = ready {
            return self.stay(held, Some((id, String::new(), error.to_string())), lines);
        }
        lines.push(Line::Switched(format!("{}, in a home of its own, since {why}", label_of(held, id))));
        Ok(Seated { seat: home.clone(), account: Some(id.clone()), attaches: false })
    }

    /// Stays in the shared seat with whatever is there, and says so if somebody else was meant.
    fn stay(
        &self,
        held: &mut Held<'_>,
        instead_of: Option<(&AccountId, String, String)>,
        lines: &mut Vec<Line>,
    ) -> Result<Seated, Trouble> {
        let shared = held.base.shared();
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
        self.enter(held, &shared, live.as_ref())?;
        if let (Some(id), Holding::Account { stale: true, .. }) = (&live, &held.shared) {
            self.put(held, &shared, id)?;
        }
        Ok(Seated { seat: shared, account: live, attaches: false })
    }

    /// Codex deletes a login that its configuration forbids here.
    fn live_is_forbidden(&self, held: &Held<'_>) -> bool {
        !may_be_used(held, held.live())
    }

    /// A home without a login, so that there is nothing to delete.
    fn empty_home(&self, held: &mut Held<'_>, lines: &mut Vec<Line>) -> Result<Seated, Trouble> {
        let now = self.env().now;
        let mut names = std::iter::once("empty".to_owned()).chain((2..).map(|n| format!("empty-{n}")));
        let seat = loop {
            let seat = held.base.special(&held.pool.paths, &names.next().unwrap_or_default());
            match seats::reconcile(held.lock, &mut held.pool, &seat, now)? {
                Holding::Empty => break seat,
                // Somebody logged in there, and is gone. The pool has it now; it is forbidden as well, or was picked.
                Holding::Account { .. } if self.occupants(held, &seat).is_empty() => {
                    seats::vacate(held.lock, &mut held.pool, &seat, now)?;
                    break seat;
                }
                _ => {}
            }
        };
        seats::home::update_special(held.lock, &held.pool.paths, held.base, &seat, now)?;
        self.enter(held, &seat, None)?;
        lines.push(Line::Wrong(
            "Codex's configuration allows none of the pool's accounts here; it starts without a login"
                .to_owned(),
        ));
        Ok(Seated { seat, account: None, attaches: false })
    }

    fn put(&self, held: &mut Held<'_>, seat: &Seat, id: &AccountId) -> Result<(), Trouble> {
        let now = self.env().now;
        if matches!(held.shared, Holding::Broken { .. }) && !seat.is_home() {
            seats::clear_broken(held.lock, &mut held.pool, seat, now)?;
        }
        Ok(seats::place(held.lock, &mut held.pool, &held.census, seat, id, now)?)
    }

    pub(super) fn enter(
        &self,
        held: &Held<'_>,
        seat: &Seat,
        account: Option<&AccountId>,
    ) -> Result<(), Trouble> {
        let Some(me) = &held.census.me else {
            return Err(Trouble::Pool("the system does not tell which processes run".to_owned()));
        };
        Ok(ledger::enter(&held.pool.paths, me, &self.entry(seat, account))?)
    }

    /// Enters a launch that goes on without the pool, so that nobody swaps its seat away. Where even that is
    /// impossible, Codex starts all the same.
    pub(super) fn enter_untouched(&self, paths: &PoolPaths) {
        let (Ok(me), Ok(base)) = (crate::process::ProcessId::of_self(), Base::of_env(self.env(), paths))
        else {
            return;
        };
        let inherited = self.env().get(names::CODEX_HOME).map(Path::new);
        let home = inherited.filter(|dir| seats::home::base_of(paths, dir).is_some());
        let seat = home.and_then(|dir| Seat::of_auth_json(paths, &dir.join("auth.json")));
        if paths.root().is_dir() {
            let _ = ledger::enter(paths, &me, &self.entry(&seat.unwrap_or_else(|| base.shared()), None));
        }
    }

    fn entry(&self, seat: &Seat, account: Option<&AccountId>) -> Entry {
        let command = match &self.request.program {
            None => self.call.describe().to_owned(),
            Some(program) => program.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        Entry {
            account: account.cloned(),
            seat: path_key(&seat.auth_json()),
            cwd: self.env().cwd.as_deref().map(path_key),
            started_at: self.env().now,
            command,
            attached: self.is_codex && self.call.attaches(),
        }
    }

    /// Enters again that this launch keeps off the background server: an option of ours does that.
    pub(super) fn enter_detached(&self, held: &Held<'_>, seated: &Seated) {
        let entry = Entry { attached: false, ..self.entry(&seated.seat, seated.account.as_ref()) };
        if let Some(me) = &held.census.me {
            // It is there already; without this it only counts as one that a server takes along.
            let _ = ledger::enter(&held.pool.paths, me, &entry);
        }
    }

    /// What keeps the shared seat from changing hands, once its idle background server is stopped: that is
    /// in nobody's use, but would go on with the old account, and with its file.
    pub(super) fn free_shared_seat(&self, held: &mut Held<'_>) -> Result<Option<String>, Trouble> {
        let in_the_way = self.in_the_way(held);
        let dir = held.base.dir();
        let Some(server) = occupants::server(dir).filter(|_| in_the_way.is_none()) else {
            return Ok(in_the_way);
        };
        let own = self.request.program.is_none().then_some(self.request.own).flatten();
        let stopped = crate::codex::find::find(self.env(), self.settings, own)
            .is_ok_and(|codex| daemon::stop(&codex, dir, &server));
        // That took its time, in which it may have written.
        held.shared = seats::reconcile(held.lock, &mut held.pool, &held.base.shared(), self.env().now)?;
        if stopped {
            return Ok(self.in_the_way(held));
        }
        let stays = Occupant { kind: Kind::Server, pid: Some(server.pid), account: None };
        Ok(Some(format!("{}, which does not stop", stays.describe())))
    }

    /// The arguments that the shim adds, and no others.
    pub(super) fn extra_args(&self, held: &mut Held<'_>, seated: &Seated) -> Vec<OsString> {
        let home = seated.seat.dir() != held.base.dir();
        let mut extra: Vec<OsString> = Vec::new();
        let store = held.codex.cli_auth_credentials_store.unwrap_or(CredentialsStore::File);
        if store != CredentialsStore::File && !held.codex.store_is_enforced {
            extra.extend(["-c".into(), "cli_auth_credentials_store=\"file\"".into()]);
        }
        if home && let Some(hooks) = held.codex.hooks_override(held.base.dir(), seated.seat.dir()) {
            extra.extend(["-c".into(), hooks.into()]);
        }
        if extra.is_empty() && !seated.attaches && self.call.attaches() && self.wrong_server(held, seated) {
            extra.push("--no-daemon".into());
        }
        extra
    }

    /// Whether the seat's background server answers as somebody else, or nobody knows as whom, and
    /// the installed Codex can do without it.
    fn wrong_server(&self, held: &mut Held<'_>, seated: &Seated) -> bool {
        let Some(server) = occupants::server(seated.seat.dir()) else { return false };
        let memory = held.pool.state().seat(&seated.seat.auth_json());
        let serves = memory.and_then(|memory| seats::server_account(memory, &server));
        if serves.is_some() && serves == seated.account {
            return false;
        }
        self.supports_no_daemon(held)
    }

    fn supports_no_daemon(&self, held: &mut Held<'_>) -> bool {
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

fn switched(held: &Held<'_>, before: Option<&AccountId>, id: &AccountId) -> String {
    match before {
        Some(before) => format!("{} (was {})", label_of(held, id), label_of(held, before)),
        None => label_of(held, id).to_owned(),
    }
}
