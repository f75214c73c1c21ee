//! Carrying on: an `exec` that reaches the limit of its account goes on with another one, as one run. Here are its parts:
//! what a limit is, who goes on, one conversation out of the lines of several runs, and the process that waits for
//! Codex. `launch::carried` puts them together. What an open interface needs as well is here, too: handing a thread over,
//! and the marks of moves (`moving`). Chooses no home, and knows nothing of the network.

pub mod exec;
pub mod hand_over;
mod json_stream;
mod limit;
pub mod mark;
pub mod moves;
mod next;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use json_stream::JsonStream;
pub use limit::{at_limit, exhaust, run_at_limit};
pub use next::{FirstReset, Next, next};

use crate::account::AccountId;
use crate::env::{Env, names};
use crate::files;
use crate::pool::Pool;
use crate::process::ProcessId;
use crate::usage::Usage;

/// The feature of Codex that lets only the account that began a thread go on with it.
pub const ACCOUNT_CHECK: &str = "cli_resume_account_check";
/// How many moves a minute are made at most.
pub const MOVES_A_MINUTE: usize = 2;
const MINUTE_MS: i64 = 60_000;

/// What the runs of one `exec` have in common. The shim tells it to itself in the environment when it executes itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// The process, as in the ledger: the variable of another one says nothing.
    process: String,
    /// The account that goes on. `None`: the pick.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<AccountId>,
    /// The accounts that have reached their limit since the beginning, or since the last reset that was waited for.
    #[serde(default)]
    pub accounts: Vec<AccountId>,
    /// How many items the conversation of `--json` has.
    #[serde(default)]
    pub items: u64,
    /// When the last moves were made, Unix milliseconds.
    #[serde(default)]
    moves: Vec<i64>,
}

impl Round {
    /// Returns what this process told itself. `None`: this is the first run.
    pub fn of_env(env: &Env) -> Option<Round> {
        let round: Round = serde_json::from_str(env.text(names::CODEX_POOL_CARRIED)?).ok()?;
        (round.process == ProcessId::of_self().ok()?.to_string()).then_some(round)
    }

    /// Notes that this account has reached its limit.
    pub fn reached(&mut self, account: &AccountId) {
        if !self.accounts.contains(account) {
            self.accounts.push(account.clone());
        }
    }

    /// Returns how long a move must wait, so that there are no more than two a minute, milliseconds.
    pub fn pause(&self, now_ms: i64) -> i64 {
        let recent = self.moves.iter().rev().nth(MOVES_A_MINUTE - 1);
        recent.map_or(0, |at| (at + MINUTE_MS - now_ms).clamp(0, MINUTE_MS))
    }

    /// Returns the value of the variable for the run of that account.
    pub fn moved(mut self, process: &ProcessId, to: Option<AccountId>, now_ms: i64) -> OsString {
        (self.process, self.to) = (process.to_string(), to);
        self.moves.push(now_ms);
        let old = self.moves.len().saturating_sub(MOVES_A_MINUTE);
        self.moves.drain(..old);
        serde_json::to_string(&self).unwrap_or_default().into()
    }
}

/// Notes that an account has reached its limit. `said`: what its session log says; `model`: as for [`exhaust`].
pub fn mark_exhausted(
    pool: &mut Pool,
    account: &AccountId,
    said: Option<Usage>,
    model: Option<&str>,
    now: i64,
) {
    let known = pool.usage().usage(account).cloned();
    let said = said.and_then(|said| said.over(known.as_ref())).or(known);
    let usage = exhaust(said.as_ref(), model, now);
    pool.set_usage(account, usage);
}

/// Returns whether a model provider is OpenAI's own service, or another that a ChatGPT login is for.
pub fn is_service(main_home: &Path, provider: Option<&str>) -> bool {
    let Some(provider) = provider.filter(|name| *name != "openai") else { return true };
    let text = files::read_small(&main_home.join("config.toml"), 1 << 20).ok().flatten();
    let config = text.and_then(|text| String::from_utf8(text).ok()?.parse::<toml::Table>().ok());
    let login = config.as_ref().and_then(|config| {
        config.get("model_providers")?.get(provider)?.get("requires_openai_auth")?.as_bool()
    });
    login == Some(true)
}

/// Returns whether an argument names a descriptor or something that can be read only once: another run would not find
/// there what the first one did.
pub fn names_a_stream(arg: &OsStr, stat: impl Fn(&OsStr) -> Option<bool>) -> bool {
    let text = arg.to_string_lossy();
    let value = text.split_once('=').filter(|_| text.starts_with('-')).map_or(&*text, |(_, value)| value);
    let is_descriptor = |path: &str| {
        path.starts_with("/dev/fd/")
            || path.starts_with("/dev/std")
            || path.strip_prefix("/proc/").is_some_and(|rest| rest.contains("/fd/"))
    };
    [&*text, value].into_iter().any(|path| is_descriptor(path) || stat(OsStr::new(path)) == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> AccountId {
        AccountId::of_chatgpt(name, "space")
    }

    #[test]
    fn round_is_believed_only_by_the_process_that_wrote_it() {
        let me = ProcessId::of_self().unwrap();
        let mut round = Round { items: 3, ..Round::default() };
        round.reached(&id("alice"));
        round.reached(&id("alice"));
        let value = round.clone().moved(&me, Some(id("bob")), 5);
        let env = |value: &str| Env::of(&[(names::CODEX_POOL_CARRIED, value)], "/".as_ref(), 0);
        let read = Round::of_env(&env(value.to_str().unwrap())).unwrap();
        assert_eq!((read.items, read.accounts, read.to), (3, vec![id("alice")], Some(id("bob"))));
        let other = ProcessId { pid: me.pid + 1, ..me };
        let value = round.moved(&other, None, 5);
        assert_eq!(Round::of_env(&env(value.to_str().unwrap())), None);
        assert_eq!(Round::of_env(&env("1")), None);
    }

    #[test]
    fn third_move_waits_until_a_minute_has_passed() {
        let mut round = Round::default();
        assert_eq!(round.pause(1_000), 0);
        round.moves = vec![1_000];
        assert_eq!(round.pause(1_000), 0);
        round.moves = vec![1_000, 5_000];
        assert_eq!(round.pause(11_000), 50_000);
        assert_eq!(round.pause(61_000), 0);
        assert_eq!(round.pause(-1_000_000), MINUTE_MS, "a clock that was turned back");
    }

    #[test]
    fn descriptors_and_pipes_are_known() {
        let named = |arg: &str| names_a_stream(arg.as_ref(), |path| Some(path == "pipe"));
        for stream in
            ["/dev/fd/63", "--output-schema=/dev/fd/3", "/proc/self/fd/4", "/dev/stdout", "pipe", "-o=pipe"]
        {
            assert!(named(stream), "{stream}");
        }
        for other in ["out.txt", "/dev/null", "-", "read /dev/fd/3 please", "a=pipe", "/proc/cpuinfo"] {
            assert!(!named(other), "{other}");
        }
    }
}
