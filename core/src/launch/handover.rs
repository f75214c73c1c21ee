//! A thread that another account ran before: what in its history is bound to that one is taken out, or the service would
//! refuse it. And `--last`, which Codex looks up among the account's own threads, becomes the folder's last thread.

use super::placement::Placement;
use super::thread_owner::{self, Owner};
use super::{Launch, Line, Locked, Program};
use crate::account::AccountId;
use crate::carry::hand_over::{Turns, fit, note};
use crate::codex::argv::{self, Command, Target};
use crate::codex::threads::{self, ThreadMeta};

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
        let codex_home = locked.main_home.dir();
        let thread = match self.call.target {
            Target::Last => self.last_thread(locked),
            _ if placement.attaches => return,
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
        if own || placement.attaches {
            return;
        }
        let before = before.as_ref().map_or("another account", |id| locked.label_of(id));
        let paths = &locked.pool.paths;
        let fitted = fit(paths, codex_home, &thread, account, Turns::MayRun).and_then(|blanked| {
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
