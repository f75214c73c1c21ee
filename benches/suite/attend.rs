//! What the attendant costs while sessions run: its memory, and its share of a core.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use testkit::figures::{Figure, Limit};

use crate::programs::Programs;

/// How many sessions run, in the homes of ten accounts, and the limit of the share of a core, percent.
const SESSIONS: [(usize, Option<f64>); 3] = [(1, Some(0.1)), (20, Some(0.1)), (200, None)];
/// The limit of its memory, MB.
const MEMORY: f64 = 8.0;
/// The seconds that are measured, after those in which it takes everything in.
const SECONDS: usize = 20;
const SETTLE: Duration = Duration::from_secs(3);

pub(crate) fn figures(programs: &Programs) -> Vec<Figure> {
    SESSIONS.into_iter().flat_map(|(count, most)| with(programs, count, most)).collect()
}

fn with(programs: &Programs, count: usize, most: Option<f64>) -> [Figure; 2] {
    let pool = programs.pool(&format!("attended-{count}"), 10);
    pool.link_admin();
    let mut sessions: Vec<_> = (0..count).map(|number| pool.sleeper_of(number % 10)).collect();
    let attendant = pool.attendant();
    std::thread::sleep(SETTLE);
    let (mut shares, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..SECONDS {
        let (began, before) = (Instant::now(), worked(&attendant));
        std::thread::sleep(Duration::from_secs(1));
        shares.push((worked(&attendant) - before) / began.elapsed().as_secs_f64() * 100.0);
        memory.push(resident(&attendant));
    }
    for session in &mut sessions {
        session.kill().and_then(|()| session.wait().map(drop)).expect("a session ends");
    }
    // It ends with them, and disturbs no other measurement.
    let deadline = Instant::now() + Duration::from_secs(30);
    while attendant.exists() {
        assert!(Instant::now() < deadline, "the attendant stays");
        std::thread::sleep(Duration::from_millis(50));
    }
    let plural = if count == 1 { "" } else { "s" };
    let share = Figure::of(&format!("attendant: share of a core, {count} session{plural}"), &shares, "%");
    let memory = Figure::of(&format!("attendant: memory, {count} session{plural}"), &memory, "MB");
    [
        most.into_iter().fold(share, |share, most| share.limit(Limit::AtMost(most))),
        memory.limit(Limit::AtMost(MEMORY)),
    ]
}

/// Seconds that a process has worked. `process`: its folder in /proc.
fn worked(process: &Path) -> f64 {
    let text = fs::read_to_string(process.join("schedstat")).expect("a running attendant");
    text.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).expect("a number") / 1e9
}

/// The memory of a process, MB.
fn resident(process: &Path) -> f64 {
    let text = fs::read_to_string(process.join("status")).expect("a running attendant");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0 / 1e6
}
