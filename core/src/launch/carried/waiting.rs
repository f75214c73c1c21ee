//! Waiting for the first reset, where no other account can go on.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::at_limit::no_other;
use super::{CarriedExec, Reached, USAGE_WAIT, label, now};
use crate::account::AccountId;
use crate::carry::{FirstReset, Next, moves};
use crate::env::names;
use crate::files::PoolLock;
use crate::launch::refresh_child;
use crate::pool::Pool;
use crate::time::human_duration;

/// A reset is believed a moment later, seconds.
const AFTER_RESET: i64 = 1;
/// How often it is looked whether another account can go on meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How often the pool is tried once the reset has come.
const TRIES: u32 = 3;

impl CarriedExec {
    /// Waits until an account can go on. Holds no home meanwhile, and dies by any signal. Returns the account and its
    /// label.
    ///
    /// # Errors
    /// None can within the time that it waits at most: a reset was put off, say, or the account is gone. Or the pool cannot
    /// be used, or the session cannot be made fit.
    pub(super) fn wait_for(
        &self,
        mut first: FirstReset,
        run: &mut Reached,
    ) -> Result<(AccountId, String), String> {
        let began = Instant::now();
        let countdown = std::io::stderr().is_terminal() && !self.env.flag(names::CODEX_POOL_QUIET);
        let (mut looked, mut asked, mut failed) = (began, false, 0);
        let end = loop {
            let left = first.at + AFTER_RESET - now();
            // The time that it waits passes even if the clock is set back.
            let over = began.elapsed() >= self.wait.saturating_add(Duration::from_secs(1));
            let mut due = left <= 0 || over;
            if due || looked.elapsed() >= LOOK_AGAIN {
                looked = Instant::now();
                match self.look(run, &mut due) {
                    Ok((lock, pool, Next::Account(to))) => break self.take_turn(&lock, &pool, run, to, due),
                    Ok((.., Next::None(Some(next)))) if self.is_within(&next, began) => first = next,
                    // Perhaps the service, or the database of a shared pool, knows more.
                    Ok(opened) if due && !asked && self.settings.background_refresh => {
                        drop(opened);
                        asked = true;
                        refresh_child::ask_service(&self.env, &self.paths, None, USAGE_WAIT);
                        continue;
                    }
                    Ok((lock, _, Next::None(next))) if due => {
                        self.remember(&lock, run, Err("no other account could go on".to_owned()));
                        break Err(no_other(next.as_ref()));
                    }
                    Ok(_) => {}
                    Err(why) => {
                        failed += u32::from(due);
                        if failed == TRIES {
                            break Err(format!("this session cannot go on: {why}"));
                        }
                    }
                }
            }
            if countdown {
                count_down(&format!("codex-pool: going on in {}", human_duration(left.max(1))));
            }
            std::thread::sleep(Duration::from_secs(if countdown || left <= 5 { 1 } else { 5 }));
        };
        if countdown {
            count_down("");
        }
        if let Ok((lock, _)) = self.open() {
            let _ = moves::end_wait(&lock, &self.paths, &self.me);
        }
        end
    }

    /// Looks who can go on by now. `due`: the reset has come. After it, all may have their turn again, and also where no
    /// reset is waited for any more.
    fn look(&self, run: &Reached, due: &mut bool) -> Result<(PoolLock, Pool, Next), String> {
        let (lock, pool) = self.open()?;
        let mut next = self.next(&pool, if *due { &[] } else { &run.round.accounts });
        if next == Next::None(None) && !*due {
            *due = true;
            next = self.next(&pool, &[]);
        }
        Ok((lock, pool, next))
    }

    /// Returns whether a reset comes before the time is over that is waited at most.
    fn is_within(&self, first: &FirstReset, began: Instant) -> bool {
        let left = self.wait.saturating_sub(began.elapsed()).as_secs();
        first.at.saturating_sub(now()) <= i64::try_from(left).unwrap_or(i64::MAX)
    }

    /// Makes the session fit for the account that goes on.
    fn take_turn(
        &self,
        lock: &PoolLock,
        pool: &Pool,
        run: &mut Reached,
        to: AccountId,
        all_again: bool,
    ) -> Result<(AccountId, String), String> {
        let label = label(pool, &to);
        if let Err(why) = self.fit(lock, run, &to) {
            let why = format!("{label} cannot go on with this session: {why}");
            self.remember(lock, run, Err(why.clone()));
            return Err(why);
        }
        if all_again {
            run.round.accounts.clear();
        }
        self.remember(lock, run, Ok(to.clone()));
        Ok((to, label))
    }
}

/// Shows how much longer it takes, in the place of what was shown before.
fn count_down(text: &str) {
    let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
}
