//! The rules of the pick, sentence by sentence.

mod chance;

use super::*;
use crate::account::AccountId;
use crate::usage::{Credits, Source, Window};

const NOW: i64 = 1_000_000;
const HOUR: i64 = 3600;
const DAY: i64 = 86_400;

/// An account with everything that speaks for it.
#[derive(Clone)]
struct Given {
    account: Account,
    usage: Option<Usage>,
    has_credentials: bool,
    allowed: bool,
    sessions: usize,
    live: bool,
    failed: bool,
    model: Option<&'static str>,
}

fn given(label: &str) -> Given {
    let account = Account {
        plan: Some("plus".to_owned()),
        ..Account::new(AccountId::of_chatgpt(label, "w"), label, AccountKind::Chatgpt, 0)
    };
    Given {
        account,
        usage: None,
        has_credentials: true,
        allowed: true,
        sessions: 0,
        live: false,
        failed: false,
        model: None,
    }
}

impl Given {
    fn with(mut self, change: impl FnOnce(&mut Given)) -> Given {
        change(&mut self);
        self
    }

    /// Windows as length, percent used, seconds until the reset; just fetched.
    fn windows(self, windows: &[(i64, f64, i64)]) -> Given {
        let window = |(seconds, used, reset): &(i64, f64, i64)| Window {
            window_seconds: *seconds,
            used_percent: *used,
            resets_at: Some(NOW + reset),
        };
        self.with(|g| {
            g.usage = Some(Usage::new(Source::Api, NOW, windows.iter().map(window).collect()));
        })
    }

    /// A 5h window that resets in an hour, and a week that resets in a day, used that much.
    fn used(self, five_hours: f64, week: f64) -> Given {
        self.windows(&[(FIVE_HOURS, five_hours, HOUR), (WEEK, week, DAY)])
    }

    fn usage(self, change: impl FnOnce(&mut Usage)) -> Given {
        self.with(|g| change(g.usage.as_mut().expect("usage")))
    }

    fn credits(self, has_credits: bool, unlimited: bool) -> Given {
        self.usage(|u| u.credits = Some(Credits { has_credits, unlimited, balance: None }))
    }

    fn plan(self, plan: &str) -> Given {
        self.with(|g| g.account.plan = Some(plan.to_owned()))
    }

    fn live(self) -> Given {
        self.with(|g| g.live = true)
    }

    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            failed: self.failed,
            model: self.model,
            has_credentials: self.has_credentials,
            allowed: self.allowed,
            sessions: self.sessions,
            live: self.live,
            ..Candidate::of(&self.account, self.usage.as_ref())
        }
    }
}

fn rank(accounts: &[Given], settings: &Settings) -> Vec<Ranked> {
    let candidates: Vec<Candidate<'_>> = accounts.iter().map(Given::candidate).collect();
    pick(&candidates, NOW, settings)
}

/// Labels in the order of the ranking.
fn order(accounts: &[Given]) -> Vec<&str> {
    order_by(accounts, &Settings::default())
}

fn order_by<'a>(accounts: &'a [Given], settings: &Settings) -> Vec<&'a str> {
    rank(accounts, settings).iter().map(|r| accounts[r.index].account.label.as_str()).collect()
}

fn one(account: Given) -> Ranked {
    rank(&[account], &Settings::default()).remove(0)
}

fn room(account: Given) -> f64 {
    one(account).room.expect("room is known")
}

#[track_caller]
fn assert_close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9, "{a} is not {b}");
}

#[test]
fn account_whose_last_answer_was_a_failure_ranks_behind_those_with_data() {
    let failed = |given: Given| given.with(|g| g.failed = true);
    let accounts = [
        failed(given("full").used(100.0, 10.0)),
        failed(given("most").used(0.0, 0.0).live()),
        given("never"),
        given("little").used(70.0, 70.0),
        given("credits").used(100.0, 10.0).credits(true, false),
    ];
    assert_eq!(order(&accounts), ["little", "credits", "most", "never", "full"]);
    assert_eq!(one(failed(given("a").used(0.0, 0.0))).reason, Reason::Failed);
    // When all fail, old data decides, and the live account keeps its place.
    let all = [failed(given("a").used(0.0, 0.0)), failed(given("b").used(10.0, 50.0).live())];
    assert_eq!(order(&all), ["b", "a"]);
}

#[test]
fn reserve_is_no_room_in_either_window() {
    let keeps = |given: Given| given.with(|g| g.account.reserve = 20.0);
    assert_close(room(keeps(given("a").used(30.0, 10.0))), 50.0);
    // 6 windows in a week: 5 % beyond the reserve are 30 % of a 5h window.
    assert_close(room(keeps(given("a").used(0.0, 75.0))), 30.0);
    for used in [(80.0, 0.0), (0.0, 80.0), (95.0, 95.0)] {
        let below = one(keeps(given("a").used(used.0, used.1)));
        assert_eq!((below.tier, below.reason, below.reserved), (Tier::LessRoom, Reason::Reserved, true));
    }
    assert!(!one(keeps(given("a").used(79.0, 79.0))).reserved);
    // It is the last choice before accounts that cost money, but a choice.
    let none = Settings { session_room: 0.0, ..Settings::default() };
    let all = [keeps(given("kept").used(81.0, 0.0).live()), given("little").used(95.0, 0.0)];
    assert_eq!(order_by(&all, &none), ["little", "kept"]);
    let all = [keeps(given("kept").used(81.0, 0.0)), given("paid").used(100.0, 0.0).credits(true, false)];
    assert_eq!(order(&all), ["kept", "paid"]);
    let text = one(keeps(given("a").used(30.0, 10.0))).explain(NOW);
    assert!(text.contains("70 % of 5 h − 20 kept for you = 50 %"), "{text}");
}

#[test]
fn own_weight_counts_instead_of_the_plans() {
    let weighs = |given: Given| given.with(|g| g.account.weight = Some(3.0));
    assert_close(room(weighs(given("a").used(50.0, 50.0).plan("pro"))), 150.0);
}

#[test]
fn what_is_absent_or_not_understood_is_no_room() {
    let empty = |given: Given| given.windows(&[]);
    assert_eq!(one(empty(given("a"))).reason, Reason::Unclear);
    assert_eq!(one(empty(given("a")).credits(false, false)).tier, Tier::Unknown);
    assert_eq!(one(empty(given("a")).credits(false, true)).reason, Reason::Unlimited);
    assert_eq!(one(given("a").used(10.0, 10.0).usage(|u| u.unclear = true)).reason, Reason::Unclear);
    let spent = |reached, resets_at| {
        let spending = crate::usage::Spending { reached, resets_at };
        one(empty(given("a")).credits(true, false).usage(|u| u.spending = Some(spending)))
    };
    assert_eq!(spent(true, None).reason, Reason::Exhausted(None));
    assert_eq!(spent(true, Some(NOW + 60)).reason, Reason::Exhausted(Some(NOW + 60)));
    assert_eq!(spent(true, Some(NOW)).reason, Reason::Unclear);
    assert_eq!((spent(false, None).tier, spent(false, None).reason), (Tier::Credits, Reason::PaidByUse));
    assert_eq!(
        order(&[empty(given("a")).credits(true, false), given("b").used(70.0, 70.0), empty(given("c"))]),
        ["b", "a", "c"]
    );
}

#[test]
fn limit_of_the_model_counts_for_launches_with_that_model() {
    let limited = |name: &str, used: f64, model| {
        let limit = crate::usage::ExtraLimit {
            name: "GPT-7 Tiny".to_owned(),
            windows: vec![Window {
                window_seconds: FIVE_HOURS,
                used_percent: used,
                resets_at: Some(NOW + 60),
            }],
            limit_reached: false,
        };
        given(name).used(10.0, 10.0).usage(|u| u.extra = vec![limit]).with(|g| g.model = model)
    };
    let tiny = Some("gpt-7-tiny");
    assert_eq!(one(limited("a", 100.0, tiny)).reason, Reason::ModelExhausted(Some(NOW + 60)));
    assert_eq!(one(limited("a", 100.0, Some("gpt-7"))).tier, Tier::Room);
    assert_eq!(one(limited("a", 100.0, None)).tier, Tier::Room);
    assert_close(room(limited("a", 80.0, tiny)), 20.0);
    assert_eq!(order(&[limited("a", 100.0, tiny), given("b").used(70.0, 70.0)]), ["b", "a"]);
}

#[test]
fn banked_resets_are_named_where_an_account_is_exhausted() {
    let banked = |used| one(given("a").used(used, 10.0).usage(|u| u.banked_resets = 2)).explain(NOW);
    assert_eq!(banked(100.0), "at its limit, back in 1h; 2 banked resets can be used");
    assert!(!banked(10.0).contains("banked"));
}

#[test]
fn who_is_not_eligible_comes_last_and_says_why() {
    type Spoil = fn(&mut Given);
    let cases: [(Reason, Spoil); 8] = [
        (Reason::Disabled, |g| g.account.enabled = false),
        (Reason::NoCredentials, |g| g.has_credentials = false),
        (Reason::ReauthRequired, |g| g.account.auth.state = AuthState::ReauthRequired),
        (Reason::WorkspaceRemoved, |g| g.account.auth.state = AuthState::WorkspaceRemoved),
        (Reason::Deactivated, |g| g.account.auth.state = AuthState::Deactivated),
        (Reason::Refused, |g| g.account.auth.state = AuthState::Refused),
        (Reason::Forbidden, |g| g.allowed = false),
        (Reason::ApiKeyNotPicked, |g| g.account.kind = AccountKind::ApiKey),
    ];
    for (reason, spoil) in cases {
        let spoiled = given("a").used(0.0, 0.0).live().with(spoil);
        let ranking = rank(&[spoiled, given("b").used(100.0, 100.0)], &Settings::default());
        assert_eq!((ranking[1].index, ranking[1].tier, ranking[1].reason), (0, Tier::Excluded, reason));
        assert!(!ranking[1].eligible() && ranking[0].eligible());
    }
    // An expired access token is refreshed.
    assert!(one(given("a").with(|g| g.account.auth.state = AuthState::Expired)).eligible());
}

#[test]
fn an_api_key_is_the_last_resort_before_nothing_works() {
    let settings = Settings { api_key_fallback: true, ..Settings::default() };
    let accounts = [
        given("key").with(|g| g.account.kind = AccountKind::ApiKey).live(),
        given("full").used(100.0, 0.0),
        given("unknown"),
    ];
    assert_eq!(order_by(&accounts, &settings), ["unknown", "key", "full"]);
}

#[test]
fn a_window_whose_reset_has_passed_counts_as_unused() {
    let account = given("a").windows(&[(FIVE_HOURS, 100.0, -1), (WEEK, 50.0, DAY)]);
    assert_close(room(account.clone()), 100.0);
    assert_eq!(one(account).tier, Tier::Room);
}

#[test]
fn a_window_that_an_account_does_not_have_does_not_count_against_it() {
    assert_close(room(given("a").windows(&[(WEEK, 50.0, DAY)])), 300.0);
    assert_close(room(given("a").windows(&[(FIVE_HOURS, 20.0, HOUR)])), 80.0);
    assert_eq!(one(given("a").windows(&[])).tier, Tier::Unknown, "none at all is no sign of room");
    let balanced = Settings { policy: Policy::Balanced, ..Settings::default() };
    let accounts = [given("a").used(10.0, 30.0), given("b").windows(&[(WEEK, 30.0, DAY)])];
    assert_eq!(order_by(&accounts, &balanced), ["b", "a"]);
}

#[test]
fn room_is_the_least_of_the_5h_window_and_the_longer_ones_in_5h_windows() {
    assert_close(room(given("a").used(30.0, 50.0)), 70.0);
    // A week holds about 6: 5 % of it are 30 % of a 5h window.
    assert_close(room(given("a").used(30.0, 95.0)), 30.0);
    // A month holds 30/7 as many; a day is not less than one.
    assert_close(room(given("a").windows(&[(30 * DAY, 99.0, DAY)])), 6.0 * 30.0 / 7.0);
    assert_close(room(given("a").windows(&[(DAY, 60.0, HOUR)])), 40.0);
}

#[test]
fn room_is_weighed_by_the_plan_and_lessened_by_running_sessions() {
    for (plan, expected) in
        [("free", 5.0), ("go", 15.0), ("plus", 50.0), ("team", 50.0), ("Pro", 500.0), ("new", 50.0)]
    {
        assert_close(room(given("a").used(50.0, 0.0).plan(plan)), expected);
    }
    // The plan of the usage answer is newer than the token's.
    assert_close(room(given("a").used(50.0, 0.0).usage(|u| u.plan = Some("pro".into()))), 500.0);
    assert_close(room(given("a").used(50.0, 0.0).with(|g| g.sessions = 3)), 20.0);
    let settings = Settings { weights: vec![("plus".into(), 2.0)], ..Settings::default() };
    assert_close(rank(&[given("a").used(50.0, 0.0)], &settings)[0].room.expect("known"), 100.0);
}

#[test]
fn urgency_is_what_is_left_of_the_longest_window_per_time_until_it_resets() {
    let urgency = |g: Given| one(g).urgency;
    assert_close(urgency(given("a").used(0.0, 40.0)) * DAY as f64, 0.6);
    assert_close(urgency(given("a").windows(&[(FIVE_HOURS, 75.0, HOUR)])) * HOUR as f64, 0.25);
    // Not started: its whole length.
    let not_started = given("a").used(0.0, 0.0).usage(|u| u.windows[1].resets_at = None);
    assert_close(urgency(not_started) * WEEK as f64, 1.0);
}

#[test]
fn the_tiers_come_in_their_order() {
    let accounts = [
        given("full").used(100.0, 10.0),
        given("unknown"),
        given("credits").used(100.0, 10.0).credits(true, false),
        given("little").used(61.0, 10.0),
        given("room").used(60.0, 10.0),
    ];
    assert_eq!(order(&accounts), ["room", "little", "credits", "unknown", "full"]);
    let tiers: Vec<Tier> = rank(&accounts, &Settings::default()).iter().map(|r| r.tier).collect();
    assert_eq!(tiers, [Tier::Room, Tier::LessRoom, Tier::Credits, Tier::Unknown, Tier::Exhausted]);
    let settings = Settings { session_room: 41.0, ..Settings::default() };
    assert_eq!(rank(&accounts[4..], &settings)[0].tier, Tier::LessRoom);
}

#[test]
fn unlimited_has_room() {
    let unlimited = one(given("a").used(100.0, 100.0).credits(true, true));
    assert_eq!(
        (unlimited.tier, unlimited.reason, unlimited.room),
        (Tier::Room, Reason::Unlimited, Some(f64::INFINITY))
    );
}

#[test]
fn inside_less_room_the_one_with_more_room_comes_first_live_or_not() {
    let accounts =
        [given("a").used(90.0, 0.0).live(), given("b").used(70.0, 0.0), given("c").used(80.0, 99.9)];
    assert_eq!(order(&accounts), ["b", "a", "c"]);
}

#[test]
fn usage_is_unknown_when_missing_older_than_a_day_or_past_its_reset() {
    let reason = |g: Given| (one(g.clone()).tier, one(g).reason);
    assert_eq!(reason(given("a")), (Tier::Unknown, Reason::NeverFetched));
    let old = |age: i64| given("a").used(10.0, 10.0).usage(|u| u.fetched_at = NOW - age);
    assert_eq!(reason(old(DAY)).0, Tier::Room);
    assert_eq!(reason(old(DAY + 1)), (Tier::Unknown, Reason::Stale));
    let past = given("a").windows(&[(FIVE_HOURS, 10.0, HOUR), (WEEK, 10.0, 0)]);
    assert_eq!(reason(past), (Tier::Unknown, Reason::Stale));
}

#[test]
fn exhausted_is_a_full_window_or_a_limit_reached_with_a_reset_to_come() {
    let reason = |g: Given| one(g).reason;
    assert_eq!(reason(given("a").used(100.0, 10.0)), Reason::Exhausted(Some(NOW + HOUR)));
    // Both full: it goes on when the later one resets.
    assert_eq!(reason(given("a").used(100.0, 100.0)), Reason::Exhausted(Some(NOW + DAY)));
    let said = given("a").used(80.0, 90.0).usage(|u| u.limit_reached = true);
    assert_eq!(reason(said), Reason::Exhausted(Some(NOW + DAY)));
    let without_windows = given("a").windows(&[]).usage(|u| u.limit_reached = true);
    assert_eq!(reason(without_windows), Reason::Exhausted(None));
    // What the service said is over with the reset of the window that caused it.
    let over = given("a").windows(&[(FIVE_HOURS, 100.0, -1), (WEEK, 10.0, DAY)]);
    assert_eq!(one(over.usage(|u| u.limit_reached = true)).tier, Tier::Room);
}

#[test]
fn a_full_window_without_a_known_reset_is_exhausted_too() {
    let full = given("a").used(100.0, 10.0).usage(|u| u.windows[0].resets_at = None);
    assert_eq!(one(full.clone()).reason, Reason::Exhausted(None));
    assert_eq!(order(&[full, given("b")]), ["b", "a"]);
}

#[test]
fn among_those_with_room_one_whose_5h_window_is_not_running_comes_first() {
    let accounts = [
        given("urgent").used(10.0, 0.0),
        given("fresh").windows(&[(FIVE_HOURS, 0.0, FIVE_HOURS), (WEEK, 90.0, DAY)]),
        given("reset").windows(&[(FIVE_HOURS, 50.0, -5), (WEEK, 80.0, DAY)]),
    ];
    assert_eq!(order(&accounts), ["reset", "fresh", "urgent"]);
    assert_eq!(rank(&accounts, &Settings::default())[0].reason, Reason::StartsWindow);
    // A window that it does not have is not one that it could start.
    let without = [given("a").windows(&[(WEEK, 50.0, DAY)]), given("b").used(10.0, 40.0)];
    assert_eq!(order(&without), ["b", "a"]);
}

#[test]
fn then_the_higher_urgency_then_the_live_one_then_the_label() {
    let accounts = [given("c").used(10.0, 10.0), given("b").used(10.0, 10.0), given("a").used(10.0, 20.0)];
    assert_eq!(order(&accounts), ["b", "c", "a"]);
    let unknown = [given("a"), given("b").live(), given("c")];
    assert_eq!(order(&unknown), ["b", "a", "c"]);
}

#[test]
fn live_account_stays_while_no_other_has_the_margin_of_its_urgency() {
    let live = |week: f64| given("live").used(10.0, week).live();
    let other = |week: f64| given("a").used(10.0, week);
    assert_eq!(order(&[live(50.0), other(45.1)]), ["live", "a"]);
    assert_eq!(order(&[live(50.0), other(44.9)]), ["a", "live"]);
    // A 5h window that another could start is a reason to switch: started late, it is full again late.
    let fresh = |label: &str| given(label).windows(&[(FIVE_HOURS, 0.0, 0), (WEEK, 50.0, DAY)]);
    let ranking = rank(&[live(50.0), fresh("b")], &Settings::default());
    assert_eq!((ranking[0].index, ranking[0].reason), (1, Reason::StartsWindow));
    assert_eq!(order(&[fresh("c").live(), fresh("b"), other(0.0)]), ["c", "b", "a"]);
    let eager = Settings { switch_margin: 1.0, ..Settings::default() };
    assert_eq!(order_by(&[live(50.0), other(49.0)], &eager), ["a", "live"]);
    // Without room it does not keep it.
    assert_eq!(order(&[given("live").used(70.0, 0.0).live(), other(90.0)]), ["a", "live"]);
}

#[test]
fn live_account_stays_if_all_are_exhausted_and_the_next_reset_is_told() {
    let accounts =
        [given("a").used(100.0, 10.0), given("b").used(100.0, 100.0).live(), given("c").used(10.0, 100.0)];
    assert_eq!(order(&accounts), ["b", "a", "c"]);
}

#[test]
fn balanced_is_most_left_in_the_week_then_in_5h_inside_the_same_tiers() {
    let settings = Settings { policy: Policy::Balanced, ..Settings::default() };
    let accounts = [
        given("a").used(20.0, 30.0).live(),
        given("b").used(10.0, 30.0),
        given("c").used(50.0, 10.0),
        given("d").used(100.0, 0.0),
    ];
    assert_eq!(order_by(&accounts, &settings), ["c", "b", "a", "d"]);
}

#[test]
fn every_reason_is_a_sentence_with_its_numbers() {
    let explain = |g: Given| one(g).explain(NOW);
    assert_eq!(explain(given("a").used(100.0, 0.0)), "at its limit, back in 1h");
    assert_eq!(explain(given("a").used(70.0, 0.0)), "30 % of 5 h left; that may not last for a session");
    assert_eq!(explain(given("a").used(20.0, 25.0)), "80 % of 5 h left");
    assert_eq!(
        explain(given("a").used(20.0, 25.0).with(|g| g.sessions = 2)),
        "80 % of 5 h − 20 for 2 sessions = 60 %"
    );
    assert_eq!(
        explain(given("a").used(20.0, 25.0).plan("pro").with(|g| g.sessions = 1)),
        "80 % of 5 h × 10 for its plan − 10 for 1 session = 790 %"
    );
    assert_eq!(
        explain(given("a").used(20.0, 96.0)),
        "the week is the limit: 4 % left, back in 1d; that may not last for a session"
    );
    assert_eq!(explain(given("a").windows(&[]).credits(false, true)), "no limit");
}
