//! A pool with one account, and logins of it that are told apart by a number.

use codex_pool_share::Seen;
use codex_pool_share::keys::{MemberKeys, PoolId, PoolKey};
use codex_pool_share::login::{Age, Login};
use codex_pool_share::memory::{Connection, Memory};
use codex_pool_share::protocol::Share;

pub(crate) const ACCOUNT: &str = "aaaaaaaaaa";

/// The `n`th login of the account: as old as its number, with the refresh token of that number.
pub(crate) fn login(n: i64) -> Login {
    Login {
        account: ACCOUNT.to_owned(),
        label: "work".to_owned(),
        age: Age { issued_at: Some(n), expires_at: Some(n + 10), renewed_at: Some(n) },
        token: n.to_string(),
        document: format!("refresh token {n}, access of {n}").into(),
        access: Some(format!("access of {n}").into()),
    }
}

pub(crate) struct Pool {
    pub(crate) keys: MemberKeys,
    pub(crate) memory: Memory,
}

impl Pool {
    pub(crate) fn new() -> Pool {
        Pool { keys: MemberKeys::new(PoolId([1; 16]), 1, PoolKey([2; 32])), memory: Memory::default() }
    }

    pub(crate) fn share(&self, machine: &str) -> Share<Connection> {
        self.share_again(machine, Seen::default())
    }

    /// As after a restart of the machine.
    pub(crate) fn share_again(&self, machine: &str, seen: Seen) -> Share<Connection> {
        Share::new(self.keys.clone(), machine, self.memory.connect(), seen)
    }
}
