//! Waiting for the first reset, where no other account can go on.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::{CarriedExec, Reached, label, now};
use crate::account::AccountId;
use crate::carry::{FirstReset, Next, moves};
use crate::env::names;
use crate::time::human_duration;

/// A reset is believed a moment later, seconds.
const AFTER_RESET: i64 = 1;
/// How often it is looked whether another account can go on meanwhile, seconds.
const LOOK_AGAIN: i64 = 30;

impl CarriedExec {
    /// Waits until an account can go on. Holds no home meanwhile, and dies by any signal.
    pub(super) fn wait_for(&self, first: &FirstReset, run: &mut Reached) -> Option<(AccountId, String)> {
        let until = first.at + AFTER_RESET;
        let countdown = std::io::stderr().is_terminal() && !self.env.flag(names::CODEX_POOL_QUIET);
        let mut look_at = now() + LOOK_AGAIN;
        loop {
            let left = until - now();
            if left <= 0 || now() >= look_at {
                look_at = now() + LOOK_AGAIN;
                // After a reset all may have their turn again.
                let done = if left <= 0 { Vec::new() } else { run.round.accounts.clone() };
                if let Some((lock, pool)) = self.open()
                    && let Next::Account(to) = self.next(&pool, &done)
                {
                    self.fit(&lock, run, &to).ok()?;
                    if countdown {
                        count_down("");
                    }
                    run.round.accounts = done;
                    let _ = moves::end_wait(&lock, &self.paths, &self.me);
                    self.remember(&lock, run, Ok(to.clone()));
                    return Some((to.clone(), label(&pool, &to)));
                }
            }
            if countdown {
                count_down(&format!("codex-pool: going on in {}", human_duration(left.max(1))));
            }
            std::thread::sleep(Duration::from_secs(if countdown || left <= 5 { 1 } else { 5 }));
        }
    }
}

/// Shows how much longer it takes, in the place of what was shown before.
fn count_down(text: &str) {
    let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
}
