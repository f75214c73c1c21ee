//! The world of the pictures: four accounts with a week behind them, and sessions that run.

use std::fmt::Write as _;
use std::fs;

use serde_json::json;
use testkit::backend::{Usage, UserSpec, Window};
use testkit::{Running, World, now};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// The length of the windows, seconds.
const FIVE_HOURS: i64 = 5 * HOUR;
const WEEK: i64 = 7 * DAY;
/// Between two readings, seconds.
const STEP: i64 = 15 * 60;

/// An account, and how it was used.
struct Member {
    name: &'static str,
    plan: &'static str,
    /// Percent of the 5h window in an hour of work.
    pace: f64,
    /// When its week began, before now.
    week_began: i64,
    /// Work on so many of the last days; today from and to so many minutes before now.
    days: i64,
    today: (i64, i64),
}

const MEMBERS: [Member; 4] = [
    Member {
        name: "alice",
        plan: "plus",
        pace: 15.0,
        week_began: 5 * DAY + 20 * HOUR,
        days: 6,
        today: (440, 0),
    },
    Member {
        name: "work",
        plan: "team",
        pace: 11.0,
        week_began: 3 * DAY + 4 * HOUR,
        days: 5,
        today: (395, 0),
    },
    Member {
        name: "carol",
        plan: "plus",
        pace: 38.0,
        week_began: 2 * DAY + 7 * HOUR,
        days: 4,
        today: (230, 0),
    },
    Member { name: "dave", plan: "plus", pace: 13.0, week_began: DAY + 5 * HOUR, days: 7, today: (800, 350) },
];

/// What is used of a window, and when it resets.
type Used = (f64, i64);

impl Member {
    /// Returns the 5h window and the week at each step up to now.
    fn past(&self, now: i64) -> Vec<(i64, Used, Used)> {
        let mut readings = Vec::new();
        let (mut five_hours, mut week): (Used, Used) = ((0.0, 0), (0.0, now - self.week_began));
        for at in ((now - 7 * DAY)..=now).step_by(STEP as usize) {
            if at >= five_hours.1 {
                five_hours = (0.0, i64::MAX);
            }
            if at >= week.1 {
                week = (0.0, week.1 + WEEK);
            }
            // Each day like today, with a pause in its middle and some calm in between.
            let ago = (now - at).rem_euclid(DAY) / 60;
            let (begin, end) = self.today;
            let works = (end..begin).contains(&ago) && (now - at) / DAY < self.days && (ago / 45) % 5 != 3;
            if works && five_hours.0 < 100.0 {
                if five_hours.1 == i64::MAX {
                    five_hours.1 = at + FIVE_HOURS;
                }
                let burst = 0.6 + (at / STEP % 4) as f64 * 0.25;
                let step = self.pace * burst * STEP as f64 / HOUR as f64;
                five_hours.0 = (five_hours.0 + step).min(100.0);
                week.0 = (week.0 + step / 7.0).min(100.0);
            }
            readings.push((at, (five_hours.0, five_hours.1.min(at + FIVE_HOURS)), week));
        }
        readings
    }
}

/// Makes the world. The sessions end with what is returned.
pub(crate) fn make() -> (World, Vec<Running>) {
    let world = World::new(&[]);
    world.settings("min_poll_interval = \"0s\"\nbackground_refresh = false\nattend = false\n");
    let now = now();
    let mut history = std::collections::BTreeMap::<String, String>::new();
    for member in &MEMBERS {
        let name = member.name;
        world.backend().add_user(name, UserSpec::new(name).plan(member.plan));
        let past = member.past(now);
        let (_, five_hours, week) = *past.last().expect("readings");
        let window = |window: Window, used: Used| Some(window.resets_in(used.1 - now));
        let usage = Usage::windows(
            window(Window::five_hours(five_hours.0.round()), five_hours),
            window(Window::week(week.0.round()), week),
        );
        world.backend().set_usage(name, usage);
        let document = world.backend().auth_json(name);
        world.pool(&["import", "-", "--label", name]).stdin(document).run().ok();
        for (at, five_hours, week) in past {
            let month: String =
                jiff::Timestamp::from_second(at).expect("a time").to_string().chars().take(7).collect();
            let windows = [(FIVE_HOURS, five_hours), (WEEK, week)]
                .map(|(length, used)| json!([length, used.0.round(), used.1 - at]));
            let line = json!({"t": at, "a": world.id(name), "w": windows});
            let _ = writeln!(history.entry(month).or_default(), "{line}");
        }
    }
    let folder = world.pool_home().join("history");
    fs::create_dir_all(&folder).expect("a folder");
    for (month, text) in history {
        fs::write(folder.join(format!("{month}.jsonl")), text).expect("readings");
    }
    world.pool(&["refresh"]).run().ok();
    world.pool(&["use", "alice"]).run().ok();
    world.pool(&["use", "--auto"]).run().ok();
    let session = |label: &str, folder: &str| {
        let dir = world.home().join(folder);
        fs::create_dir_all(&dir).expect("a folder");
        world.hold(world.exec_as(label).current_dir(dir))
    };
    let sessions = vec![session("alice", "shop"), session("alice", "shop/api"), session("work", "billing")];
    // The work of carol, which reached her limit, goes on as alice.
    let (carol, alice, at) = (world.id("carol"), world.id("alice"), now - 34 * 60);
    let entry = json!({"at": at, "event": "carried", "account": alice, "from": carol, "why": "room 37 %"});
    let log = world.pool_home().join("log.jsonl");
    let before = fs::read_to_string(&log).unwrap_or_default();
    fs::write(&log, format!("{entry}\n{before}")).expect("the log");
    (world, sessions)
}
