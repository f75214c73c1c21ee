//! A thread that another account ran before: what in its history is bound to that one is taken out, or the service would
//! refuse it. And `--last`, which Codex looks up among the account's own threads, becomes the folder's last thread.

use std::path::Path;

use super::placement::Placement;
use super::thread_owner::{self, Owner};
use super::{Launch, Line, Locked, Program};
use crate::account::AccountId;
use crate::codex::argv::{self, Command, Target};
use crate::codex::rollout::{Blanked, Quiet, Taken, TurnState, WriterLock, blank, last_turn};
use crate::codex::threads::{self, ThreadMeta};
use crate::error::os_text;
use crate::files;
use crate::files::PoolLock;
use crate::paths::PoolPaths;
use crate::thread_record::ThreadRecord;

/// How long a chain of forks may be.
const MOST_FORKS: usize = 16;

impl Launch<'_> {
    /// Makes the thread that this launch goes on with fit for its account.
    pub(super) fn hand_over(
        &self,
        locked: &Locked<'_>,
        placement: &Placement,
        program: &mut Program,
        lines: &mut Vec<Line>,
    ) {
        use Command as C;
        let goes_on = matches!(self.call.command, C::Resume | C::ExecResume | C::Fork | C::ExecFork);
        let Some(account) = placement.account.as_ref().filter(|_| self.is_codex && goes_on) else { return };
        if placement.attaches {
            return;
        }
        let codex_home = locked.main_home.dir();
        let thread = match self.call.target {
            Target::Last => self
                .folder()
                .and_then(|folder| threads::newest_in(codex_home, &folder, self.call.is_interactive())),
            target => threads::find(codex_home, target),
        };
        let Some(thread) = thread else { return };
        let before = match thread_owner::creator(locked, &thread) {
            Owner::Account(id) | Owner::Perhaps(id) => Some(id),
            _ => None,
        };
        let own = before.as_ref() == Some(account);
        if self.call.target == Target::Last && !(own && created_by(&thread, account)) {
            let words = program.args().to_vec();
            if let Some(words) = argv::parse(&words).with_thread(&words, &thread.id) {
                program.set_args(words);
            }
        }
        if own {
            return;
        }
        let before = before.as_ref().map_or("another account", |id| locked.label_of(id));
        let paths = &locked.pool.paths;
        let fitted = fit(paths, codex_home, &thread, account).and_then(|blanked| {
            if matches!(self.call.command, C::Resume | C::ExecResume) {
                note(&locked.lock, paths, &thread, account, self.env().now)?;
            }
            Ok(blanked)
        });
        match fitted {
            Ok(blanked) => {
                for unknown in &blanked.unknown {
                    lines.push(Line::Wrong(format!(
                        "left in this session's history, and not understood: {unknown}"
                    )));
                }
                if blanked.lines + blanked.parts > 0 {
                    let to = locked.label_of(account);
                    lines.push(Line::Verbose(format!("the hidden reasoning of {before} is not for {to}")));
                }
            }
            Err(why) => lines.push(Line::Wrong(format!(
                "this session's history is bound to {before}, and stays so ({why}); the service may refuse it"
            ))),
        }
    }
}

/// Returns whether Codex itself says that this account began the thread, or does not say who did.
fn created_by(thread: &ThreadMeta, account: &AccountId) -> bool {
    match (&thread.creator_user_id, &thread.creator_account_id) {
        (Some(user), Some(space)) => AccountId::of_chatgpt(user, space) == *account,
        _ => true,
    }
}

/// Takes out of a thread's history what is bound to another account than this one, also where it is read in the log of
/// the thread that it is a fork of.
///
/// # Errors
/// Why the history stays as it is.
pub(super) fn fit(
    paths: &PoolPaths,
    codex_home: &Path,
    thread: &ThreadMeta,
    account: &AccountId,
) -> Result<Blanked, String> {
    let blanked = blank_one(paths, codex_home, thread)?;
    let mut origin = thread.forked_from.clone();
    for _ in 0..MOST_FORKS {
        let Some(thread) = origin.and_then(|id| threads::by_id(codex_home, &id)) else { break };
        let record = ThreadRecord::read(paths, &thread.id).ok().flatten();
        if record.is_none_or(|record| record.account != *account) {
            blank_one(paths, codex_home, &thread)?;
        }
        origin = thread.forked_from;
    }
    Ok(blanked)
}

fn blank_one(paths: &PoolPaths, codex_home: &Path, thread: &ThreadMeta) -> Result<Blanked, String> {
    let held = match WriterLock::take(codex_home, &thread.id).map_err(|e| os_text(&e))? {
        Taken::Held(lock) => Some(lock),
        Taken::InUse => return Err("it is open in a running Codex".to_owned()),
        Taken::NoLocks => None,
    };
    let quiet = match &held {
        Some(lock) => Quiet::Locked(lock),
        None => {
            let turn = files::open(&thread.path).and_then(|log| last_turn(&log)).map_err(|e| os_text(&e))?;
            if turn.is_some_and(|turn| turn.state == TurnState::InFlight) {
                return Err("it may be open in a running Codex".to_owned());
            }
            Quiet::Stopped
        }
    };
    blank(paths, &thread.id, &thread.path, quiet).map_err(|e| e.to_string())
}

/// Records that this account has the thread.
///
/// # Errors
/// Why that cannot be recorded.
pub(super) fn note(
    lock: &PoolLock,
    paths: &PoolPaths,
    thread: &ThreadMeta,
    account: &AccountId,
    now: i64,
) -> Result<(), String> {
    let record = match ThreadRecord::read(paths, &thread.id).ok().flatten() {
        Some(record) if record.account == *account => return Ok(()),
        Some(record) => record.carried_to(account.clone(), now),
        None => {
            let creator = match (&thread.creator_user_id, &thread.creator_account_id) {
                (Some(user), Some(space)) => Some(AccountId::of_chatgpt(user, space)),
                _ => None,
            };
            let mut record = ThreadRecord::new(account.clone(), thread.path.clone(), now);
            record.carried_from = creator.filter(|creator| creator != account);
            record
        }
    };
    record.write(lock, paths, &thread.id).map_err(|e| e.to_string())
}
