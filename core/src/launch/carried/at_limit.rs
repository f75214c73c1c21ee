//! What becomes of a run that has ended: nothing, or, at its account's limit, who goes on, and with what history.

use std::path::Path;

use super::super::{Line, candidates, folder_rule, refresh_child};
use super::{Afterwards, CarriedExec, Reached, USAGE_WAIT, label, now};
use crate::account::AccountId;
use crate::carry::exec::{End, asked_to_end};
use crate::carry::hand_over::{self, Turns};
use crate::carry::moves::{self, MoveRecord, Waiting};
use crate::carry::{self, ACCOUNT_CHECK, FirstReset, Next};
use crate::codex::argv::{self, Invocation};
use crate::codex::configuration::{CodexSettings, SYSTEM_DIR, Surroundings};
use crate::codex::rollout::{EndedByLimit, last_turn};
use crate::codex::threads::{self, ThreadMeta};
use crate::codex::{find, probe};
use crate::files::{self, PoolLock};
use crate::homes::HomeContent;
use crate::homes::in_use::Processes;
use crate::ledger;
use crate::pool::Pool;
use crate::store::path_key;
use crate::time::human_duration;
use crate::usage::Usage;
use crate::usage::session_log::newest_limits;

impl CarriedExec {
    /// Brings the pool up to date after a run, and decides what becomes of it.
    pub(super) fn conclude(&self, end: End, run: &mut Reached, lines: &mut Vec<Line>) -> Option<Afterwards> {
        let opened = self.take_in();
        let status = match end {
            End::Exited(status) => Some(status),
            End::Killed(_) => None,
        };
        let log = files::open(&run.thread.path).ok();
        let turn = log.as_ref().and_then(|log| last_turn(log).ok().flatten());
        let service = self.is_service(&run.thread);
        let at_limit = carry::run_at_limit(status, turn.as_ref(), run.began_ms, service);
        let (lock, mut pool) = match opened {
            Ok(opened) => opened,
            Err(why) => return self.cannot(&at_limit, &why, lines),
        };
        if turn.as_ref().is_some_and(|turn| turn.at / 1_000_000 >= run.began_ms) {
            let _ = hand_over::note(&lock, &self.paths, &run.thread, &self.account, now());
        }
        if asked_to_end().is_some() {
            return None;
        }
        let (lock, mut pool) = match at_limit {
            EndedByLimit::No => return None,
            EndedByLimit::Yes => (lock, pool),
            EndedByLimit::Confirm => {
                let since = now();
                drop((lock, pool));
                refresh_child::ask_service(&self.env, &self.paths, Some(&self.account), USAGE_WAIT);
                let (lock, again) = match self.open() {
                    Ok(opened) => opened,
                    Err(why) => return self.cannot(&at_limit, &why, lines),
                };
                pool = again;
                if !carry::at_limit(pool.usage().usage(&self.account), since, now()) {
                    return None;
                }
                (lock, pool)
            }
        };
        let said = log.as_ref().and_then(|log| newest_limits(log, run.began_ms * 1_000_000));
        self.mark_exhausted(&mut pool, said);
        let _ = pool.commit(&lock);
        run.round.reached(&self.account);
        let at_limit = format!("{} is at its limit", label(&pool, &self.account));
        if self.checks_account(&lock, &mut pool) {
            let why = format!(
                "this Codex lets only the account that began a session go on with it ({ACCOUNT_CHECK})"
            );
            lines.push(Line::Wrong(format!("{at_limit}; {why}")));
            self.remember(&lock, run, Err(why));
            return None;
        }
        match self.next(&pool, &run.round.accounts) {
            Next::Account(to) => {
                if let Err(why) = self.fit(&lock, run, &to) {
                    let why = format!("{} cannot go on with this session: {why}", label(&pool, &to));
                    lines.push(Line::Wrong(format!("{at_limit}, and {why}")));
                    self.remember(&lock, run, Err(why));
                    return None;
                }
                lines.push(Line::Wrong(format!("{at_limit}; {} goes on", label(&pool, &to))));
                self.remember(&lock, run, Ok(to.clone()));
                self.leave(&lock, &mut pool);
                Some(Afterwards::GoesOn(to))
            }
            Next::None(first) => self.nobody(lock, pool, run, first, &at_limit, lines),
        }
    }

    /// The pool cannot be used. Where that is why the work ends, this is said.
    fn cannot(&self, ended: &EndedByLimit, why: &str, lines: &mut Vec<Line>) -> Option<Afterwards> {
        if *ended != EndedByLimit::No {
            lines.push(Line::Wrong(format!("this session cannot go on with another account: {why}")));
        }
        None
    }

    /// No account can go on now: waits, or says when the first one can.
    fn nobody(
        &self,
        lock: PoolLock,
        mut pool: Pool,
        run: &Reached,
        mut first: Option<FirstReset>,
        at_limit: &str,
        lines: &mut Vec<Line>,
    ) -> Option<Afterwards> {
        let mut lock = lock;
        if !self.wait.is_zero() && self.settings.background_refresh {
            // When the reset is, the service knows best.
            drop((lock, pool));
            refresh_child::ask_service(&self.env, &self.paths, None, USAGE_WAIT);
            (lock, pool) = match self.open() {
                Ok(opened) => opened,
                Err(why) => return self.cannot(&EndedByLimit::Yes, &why, lines),
            };
            if pool.usage().usage(&self.account).is_none_or(|usage| usage.exhausted_until(now()).is_none()) {
                self.mark_exhausted(&mut pool, None);
            }
            if let Next::None(known) = self.next(&pool, &run.round.accounts) {
                first = known;
            }
        }
        let left = |first: &FirstReset| first.at.saturating_sub(now()).max(0);
        let wait = i64::try_from(self.wait.as_secs()).unwrap_or(i64::MAX);
        match first {
            Some(first) if !self.wait.is_zero() && left(&first) <= wait => {
                let time = human_duration(left(&first));
                lines.push(Line::Wrong(format!(
                    "{at_limit}; waiting for {}, who resets in {time}",
                    first.label
                )));
                let waiting = Waiting {
                    process: self.me.to_string(),
                    home: path_key(&self.home.auth_json()),
                    account: self.account.clone(),
                    thread: run.thread.id.clone(),
                    since: now(),
                    until: first.at,
                };
                let _ = moves::begin_wait(&lock, &self.paths, waiting);
                self.leave(&lock, &mut pool);
                Some(Afterwards::Waits(first))
            }
            first => {
                let why = no_other(first.as_ref());
                lines.push(Line::Wrong(format!("{at_limit}, and {why}")));
                self.remember(&lock, run, Err("no other account could go on".to_owned()));
                let _ = pool.commit(&lock);
                None
            }
        }
    }

    fn mark_exhausted(&self, pool: &mut Pool, said: Option<Usage>) {
        let call = argv::parse(&self.args);
        let model = self.codex_settings(&call).model;
        carry::mark_exhausted(pool, &self.account, said, model.as_deref(), now());
    }

    /// Notes for people what became of the session at the limit.
    pub(super) fn remember(&self, lock: &PoolLock, run: &Reached, to: Result<AccountId, String>) {
        let record = MoveRecord::of_exec(&self.home, self.account.clone(), &run.thread.id, to, now());
        let _ = moves::add(lock, &self.paths, record);
    }

    /// Gives up the home, which is another's to have from here on.
    fn leave(&self, lock: &PoolLock, pool: &mut Pool) {
        let _ = pool.commit(lock);
        ledger::remove(&self.paths, &self.me);
    }

    /// Returns who goes on.
    pub(super) fn next(&self, pool: &Pool, done: &[AccountId]) -> Next {
        let now = now();
        // Without the lock, entries of launches that have ended stay: the next launch learns from them.
        let processes = Processes::read(None, &self.paths, now);
        let call = argv::parse(&self.args);
        let codex = self.codex_settings(&call);
        let content = HomeContent::read(&self.paths, &self.main_home);
        let credentials = pool.credentials();
        let has = |id: &AccountId| credentials.has(id);
        let accounts = &pool.registry().accounts;
        let (rules, _) = folder_rule::rules_of(&self.env, accounts, Some(&call), self.main_home.dir());
        let candidates = candidates(pool, &processes.ledger, content.account(), &codex, &rules, has, now);
        carry::next(&candidates, done, now, &self.settings)
    }

    /// Returns Codex's own settings for its command line.
    fn codex_settings(&self, call: &Invocation<'_>) -> CodexSettings {
        let around = Surroundings {
            codex_home: self.main_home.dir(),
            system_dir: Path::new(SYSTEM_DIR),
            user_home: self.env.home(),
            cwd: self.env.cwd.as_deref(),
        };
        CodexSettings::read(around, call)
    }

    /// Makes the thread, and those of its sub-agents, fit for that account.
    pub(super) fn fit(&self, lock: &PoolLock, run: &Reached, to: &AccountId) -> Result<(), String> {
        if *to == self.account {
            return Ok(());
        }
        let codex_home = self.main_home.dir();
        let parts = threads::parts_of(codex_home, &run.thread.id, run.began_ms);
        for thread in parts.iter().chain([&run.thread]) {
            hand_over::fit(&self.paths, codex_home, thread, to, Turns::MayRun)?;
            hand_over::note(lock, &self.paths, thread, to, now())?;
        }
        Ok(())
    }

    /// Returns whether Codex talks to OpenAI's own service, or to another that a ChatGPT login is for.
    fn is_service(&self, thread: &ThreadMeta) -> bool {
        carry::is_service(self.main_home.dir(), thread.model_provider.as_deref())
    }

    /// Returns whether the installed Codex lets only the account that began a thread go on with it, and remembers that.
    fn checks_account(&self, lock: &PoolLock, pool: &mut Pool) -> bool {
        let Some(codex) = find::find(&self.env, &self.settings, Some(&self.again.0)).ok() else {
            return false;
        };
        let codex_home = self.main_home.dir();
        let key = probe::identity(&codex);
        let known = key.as_ref().and_then(|key| pool.state().codex.get(key)).cloned();
        if let Some(checks) = known.as_ref().and_then(|known| known.checks_account(codex_home)) {
            return checks;
        }
        let checks = probe::checks_account(&codex, codex_home);
        if let (Some(key), Some(on)) = (key, checks)
            && let Some(mut known) = known.or_else(|| probe::ask(&codex))
        {
            known.set_checks_account(on, codex_home);
            pool.state_mut().codex = [(key, known)].into();
            let _ = pool.commit(lock);
        }
        checks == Some(true)
    }
}

/// Says that no other account can go on, and when the first one can.
pub(super) fn no_other(first: Option<&FirstReset>) -> String {
    let when = first.map_or_else(String::new, |first| {
        format!("; {} resets first, in {}", first.label, human_duration((first.at - now()).max(0)))
    });
    format!("no other account can go on{when}")
}
