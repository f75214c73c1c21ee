//! What holds for any accounts whatever.

use super::*;

/// Deterministic, and good enough to mix.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn account(&mut self, n: usize) -> Given {
        let odd = [f64::NAN, f64::INFINITY, -5.0, 1e300];
        let mut windows = Vec::new();
        for seconds in [FIVE_HOURS, DAY, WEEK, 30 * DAY, 0, -1] {
            if self.below(3) == 0 {
                let used =
                    if self.below(20) == 0 { odd[self.below(4) as usize] } else { self.below(101) as f64 };
                windows.push((seconds, used, self.below(200_000) as i64 - 20_000));
            }
        }
        let mut account = given(&format!("{}", self.below(4))).windows(&windows);
        account.account.id = AccountId::of_chatgpt(&n.to_string(), "w");
        account.sessions = self.below(5) as usize;
        account = account.plan(["free", "plus", "pro", "?"][self.below(4) as usize]);
        if self.below(4) == 0 {
            account = account.credits(self.below(2) == 0, self.below(3) == 0);
        }
        let (limit, no_reset, age) = (self.below(6) == 0, self.below(4) == 0, self.below(100_000) as i64);
        account = account.usage(|u| {
            u.limit_reached = limit;
            u.fetched_at = NOW - age;
            if let Some(w) = u.windows.first_mut().filter(|_| no_reset) {
                w.resets_at = None;
            }
        });
        match self.below(8) {
            0 => account.with(|g| g.usage = None),
            1 => account.with(|g| g.account.enabled = false),
            2 => account.with(|g| g.account.kind = AccountKind::ApiKey),
            _ => account,
        }
    }
}

#[test]
fn ranking_is_whole_and_independent_of_the_accounts_order() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..3000 {
        let mut accounts: Vec<Given> = (0..1 + dice.below(6) as usize).map(|n| dice.account(n)).collect();
        let live = dice.below(accounts.len() as u64 + 1) as usize;
        if let Some(account) = accounts.get_mut(live) {
            account.live = true;
        }
        let settings = Settings {
            policy: if round % 3 == 0 { Policy::Balanced } else { Policy::Room },
            api_key_fallback: round % 2 == 0,
            ..Settings::default()
        };
        let ranking = rank(&accounts, &settings);
        let mut indices: Vec<usize> = ranking.iter().map(|r| r.index).collect();
        let ids: Vec<_> = indices.iter().map(|i| accounts[*i].account.id.clone()).collect();
        indices.sort_unstable();
        assert!(indices.iter().copied().eq(0..accounts.len()), "a permutation");
        assert!(ranking.is_sorted_by_key(|r| r.tier), "{ranking:?}");
        for ranked in &ranking {
            assert!(ranked.room.is_none_or(|room| !room.is_nan()), "{ranked:?}");
            assert!(ranked.urgency.is_finite() && ranked.urgency >= 0.0, "{ranked:?}");
            assert!(!ranked.explain(NOW).is_empty());
        }
        let turn = dice.below(accounts.len() as u64) as usize;
        accounts.rotate_left(turn);
        let again: Vec<_> =
            rank(&accounts, &settings).iter().map(|r| accounts[r.index].account.id.clone()).collect();
        assert_eq!(ids, again, "round {round}");
    }
}
