use std::time::Duration;

use super::*;
use crate::usage::{FIVE_HOURS, Source, WEEK};

const NOW: i64 = 1_800_000_000;

fn id(text: &str) -> AccountId {
    AccountId::of_api_key(text)
}

fn usage(at: i64, five_hours: f64, week: f64) -> Usage {
    let window = |window_seconds, used_percent| Window {
        window_seconds,
        used_percent,
        resets_at: Some(at.div_euclid(window_seconds) * window_seconds + window_seconds),
    };
    Usage::new(Source::Api, at, vec![window(FIVE_HOURS, five_hours), window(WEEK, week)])
}

struct Pool {
    _dir: tempfile::TempDir,
    paths: PoolPaths,
    lock: PoolLock,
}

fn pool() -> Pool {
    let dir = tempfile::tempdir().unwrap();
    let paths = PoolPaths::new(dir.path().to_owned());
    let lock = PoolLock::acquire(&paths, Duration::ZERO).unwrap().unwrap();
    Pool { _dir: dir, paths, lock }
}

impl Pool {
    fn add(&self, name: &str, usage: &Usage) {
        self.add_all(&[Reading::of(&id(name), usage)]);
    }

    fn add_all(&self, readings: &[Reading]) {
        let now = readings.last().unwrap().at;
        History::new(&self.paths).add(&self.lock, readings, |_| true, now).unwrap();
        // The day of the last write is that of the file.
        let path = History::new(&self.paths).month_of(now).unwrap();
        let at = std::time::UNIX_EPOCH + Duration::from_secs(now as u64);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    }

    fn all(&self) -> Vec<Reading> {
        History::new(&self.paths).read(0, i64::from(u32::MAX))
    }

    fn bytes(&self) -> u64 {
        let files = fs::read_dir(self.paths.history()).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    }
}

#[test]
fn only_what_changed_is_a_reading() {
    let before = usage(NOW, 10.0, 20.0);
    assert!(changed(None, &before));
    assert!(!changed(Some(&before), &Usage { fetched_at: NOW + 60, ..before.clone() }));
    let with = |five_hours, week| Usage { fetched_at: NOW, ..usage(NOW, five_hours, week) };
    assert!(!changed(Some(&before), &with(10.2, 20.0)), "less than a percent");
    assert!(changed(Some(&before), &with(11.0, 20.0)));
    assert!(changed(Some(&before), &with(10.0, 21.0)));
    assert!(changed(Some(&before), &Usage { limit_reached: true, ..before.clone() }));
    let mut reset = before.clone();
    reset.windows[0].resets_at = reset.windows[0].resets_at.map(|at| at + 18_000);
    assert!(changed(Some(&before), &reset));
    reset.windows.pop();
    assert!(changed(Some(&before), &reset));
}

#[test]
fn readings_come_back_and_damaged_lines_are_left_out() {
    let pool = pool();
    pool.add("a", &usage(NOW, 10.0, 20.0));
    let path = History::new(&pool.paths).month_of(NOW).unwrap();
    let mut text = fs::read(&path).unwrap();
    text.extend(b"{\"t\":5,\n\xff\xfe\n{\"t\":1,\"a\":\"x\",\"w\":[[0,1,null]]}\n{\"t\":17999");
    fs::write(&path, text).unwrap();
    pool.add("b", &usage(NOW + 60, 11.0, 20.0));
    let all = pool.all();
    let found: Vec<(AccountId, i64)> = all.iter().map(|r| (r.account.clone(), r.at)).collect();
    assert_eq!(found, [(id("a"), NOW), (id("b"), NOW + 60)]);
    assert_eq!(all[1].window(FIVE_HOURS).unwrap().used_percent, 11.0);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let of = |from, to| History::new(&pool.paths).read(from, to).len();
    assert_eq!((of(NOW + 1, NOW + 100), of(NOW, NOW), of(0, NOW - 1)), (1, 1, 0));
}

#[test]
fn half_a_year_of_work_without_a_pause_takes_less_than_half_a_megabyte() {
    let pool = pool();
    // A request every minute, a percent of five hours every three: more than any account allows.
    let step = 180;
    for day in 0..183 {
        let times = (0..DAY / step).map(|n| NOW + day * DAY + n * step);
        let used = |at: i64, length: i64| (at.rem_euclid(length) * 100 / length) as f64;
        let readings =
            times.map(|at| Reading::of(&id("a"), &usage(at, used(at, FIVE_HOURS), used(at, WEEK))));
        pool.add_all(&readings.collect::<Vec<_>>());
    }
    let bytes = 2 * pool.bytes();
    assert!((100_000..1_000_000).contains(&bytes), "{bytes} bytes");
    let all = pool.all();
    let newest: Vec<&Reading> = all.iter().filter(|r| r.at > all.last().unwrap().at - DAY).collect();
    assert_eq!(newest.len() as i64, DAY / step, "the last day is whole");
    let fullest = all.iter().map(|r| r.window(FIVE_HOURS).unwrap().used_percent).fold(0.0, f64::max);
    assert!(fullest >= 99.0, "what a window reached before its reset is kept");
}

#[test]
fn files_beyond_13_months_and_accounts_that_are_gone_are_dropped() {
    let pool = pool();
    for month in 0..20 {
        pool.add("a", &usage(NOW + month * 31 * DAY, 10.0, 20.0));
    }
    assert_eq!(History::new(&pool.paths).files().len(), MONTHS);
    fs::write(pool.paths.history().join("notes.txt"), "mine").unwrap();
    let now = NOW + 20 * 31 * DAY;
    let reading = Reading::of(&id("b"), &usage(now, 1.0, 1.0));
    let keep = |account: &AccountId| *account != id("a");
    History::new(&pool.paths).add(&pool.lock, &[reading], keep, now).unwrap();
    let newest = History::new(&pool.paths).read(now - 40 * DAY, now);
    assert!(newest.iter().all(|r| r.account == id("b")), "{newest:?}");
    assert!(pool.paths.history().join("notes.txt").exists());
}
