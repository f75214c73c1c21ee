//! Sessions whose account reached its limit: which wait for a reset or are just moving, which were carried on, and why one
//! was not. Data for `list`, `why`, `watch` and JSON.

use std::collections::BTreeSet;
use std::path::Path;

use codex_pool_core::account::AccountId;
use codex_pool_core::carry::mark::MoveMark;
use codex_pool_core::carry::moves::{self, MoveRecord, Waiting};
use codex_pool_core::codex::background_server::BackgroundServer;
use codex_pool_core::codex::threads;
use codex_pool_core::folders::short;
use codex_pool_core::homes::CodexHome;
use codex_pool_core::moving::{Threads, stands_still};
use codex_pool_core::pool::Pool;
use codex_pool_core::process::{Liveness, ProcessId};
use codex_pool_core::store::path_of_key;
use codex_pool_core::time::{DAY, human_duration};
use serde_json::{Value, json};

use super::Clock;
use crate::context::Context;

/// What was longer ago is not shown.
const RECENT: i64 = DAY;
/// A session that went on longer ago is no news for people, seconds.
const NEWS: i64 = 3_600;
/// The most lines of what is over.
const MOST: usize = 5;
/// An interface that has not gone on so long after the reset does not wait for it any more, seconds.
const IN_VAIN: i64 = 300;
/// So many characters of a session's id are shown where its folder is not known.
const ID_SHOWN: usize = 8;

/// What has become of sessions at a limit.
#[derive(Debug, Clone)]
pub(crate) struct Moves {
    /// A line per session, for people.
    pub(crate) lines: Vec<String>,
    json: Vec<Value>,
}

/// What is said of some sessions.
struct Row {
    state: State,
    threads: Vec<Thread>,
    /// What is said to people.
    text: String,
    /// When it was, Unix seconds.
    at: i64,
    json: Value,
}

struct Thread {
    id: String,
    folder: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Moving,
    CarriedOn,
    Stopped,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Moving => "moving",
            State::CarriedOn => "carried_on",
            State::Stopped => "stopped",
        }
    }
}

/// Returns what waits or moves now, and what has become of others lately, the newest first. `me`: this process.
pub(crate) fn moves(ctx: &Context, pool: &Pool, me: Option<&ProcessId>, clock: &Clock, now: i64) -> Moves {
    let sight = Sight { ctx, pool, clock, now };
    let waits = |waiting: &Waiting| {
        let process = ProcessId::parse(&waiting.process);
        process.is_some_and(|process| me.is_none_or(|me| process.liveness(me) != Liveness::Dead))
    };
    let waiting = moves::waiting(&ctx.paths).into_iter().filter(waits).map(|waiting| sight.waiting(&waiting));
    let (in_interfaces, over): (Vec<_>, Vec<_>) =
        moves::last(&ctx.paths).into_iter().partition(|record| record.waits);
    let in_interfaces = in_interfaces.iter().filter_map(|record| sight.waiting_in_interface(record));
    let moving = MoveMark::all(&ctx.paths);
    let moving = moving.iter().filter_map(|mark| sight.moving(mark));
    let recent = |record: &MoveRecord| now.saturating_sub(record.at) < RECENT;
    let over = over.into_iter().filter(recent).map(|record| sight.over(&record));
    let rows: Vec<Row> = waiting.chain(in_interfaces).chain(moving).chain(over).collect();
    Moves { lines: lines(&rows, now), json: rows.into_iter().map(|row| row.json).collect() }
}

/// Adds them to an answer in JSON.
pub(crate) fn add_to(moves: &Moves, answer: &mut Value) {
    answer["moves"] = moves.json.clone().into();
}

/// Returns what people see of it: of each session the newest.
fn lines(rows: &[Row], now: i64) -> Vec<String> {
    let mut said = BTreeSet::new();
    let mut left = MOST;
    let mut lines = Vec::new();
    for row in rows {
        let threads: Vec<&Thread> =
            row.threads.iter().filter(|thread| said.insert(thread.id.as_str())).collect();
        let old = row.state == State::CarriedOn && now.saturating_sub(row.at) >= NEWS;
        if old || threads.is_empty() && !row.threads.is_empty() {
            continue;
        }
        if matches!(row.state, State::CarriedOn | State::Stopped) {
            let Some(less) = left.checked_sub(1) else { continue };
            left = less;
        }
        lines.push(format!("{}: {}", sessions(&threads), row.text));
    }
    lines
}

/// Names sessions by their folders, or by their ids.
fn sessions(threads: &[&Thread]) -> String {
    let folders: BTreeSet<&str> = threads.iter().filter_map(|thread| thread.folder.as_deref()).collect();
    let ids = threads.iter().filter(|thread| thread.folder.is_none());
    let ids: Vec<String> = ids.map(|thread| thread.id.chars().take(ID_SHOWN).collect()).collect();
    let folders = folders.into_iter().collect::<Vec<_>>().join(", ");
    let word = if threads.len() > 1 { "sessions" } else { "session" };
    match (folders.as_str(), ids.as_slice()) {
        ("", []) => word.to_owned(),
        ("", ids) => format!("{word} {}", ids.join(", ")),
        (folders, []) => format!("{word} in {folders}"),
        (folders, ids) => format!("{word} {} and in {folders}", ids.join(", ")),
    }
}

/// What is needed to put it in words.
struct Sight<'a> {
    ctx: &'a Context,
    pool: &'a Pool,
    clock: &'a Clock,
    now: i64,
}

impl Sight<'_> {
    fn waiting(&self, waiting: &Waiting) -> Row {
        let (home, threads) = (path_of_key(&waiting.home), std::slice::from_ref(&waiting.thread));
        self.row_of_wait(&home, &waiting.account, threads, waiting.since, waiting.until)
    }

    /// `None`: no interface waits any more.
    fn waiting_in_interface(&self, record: &MoveRecord) -> Option<Row> {
        let home = path_of_key(&record.home);
        let until = record.resets_at.filter(|until| self.now < until.saturating_add(IN_VAIN))?;
        let threads = self.still_there(record, &home);
        let waits = !threads.is_empty();
        waits.then(|| self.row_of_wait(&home, &record.from, &threads, record.at, until))
    }

    /// Returns those threads of a wait that its background server still has, and that nobody has gone on with.
    fn still_there(&self, record: &MoveRecord, auth_json: &Path) -> Vec<String> {
        let paths = &self.ctx.paths;
        let home = CodexHome::of_auth_json(paths, auth_json);
        let server = home.as_ref().and_then(|home| BackgroundServer::of_home(home.dir()));
        let Some((home, server)) = home.zip(server) else { return Vec::new() };
        let mut threads = Threads::of(server, home.main_home(paths).dir());
        threads.look();
        let waits = threads.loaded().filter(|thread| {
            record.threads.contains(&thread.meta.id)
                && thread.turn().is_some_and(|turn| stands_still(paths, thread, turn, &record.from))
        });
        waits.map(|thread| thread.meta.id.clone()).collect()
    }

    fn row_of_wait(&self, home: &Path, from: &AccountId, ids: &[String], since: i64, until: i64) -> Row {
        let time = self.clock.time_and_distance(until, self.now);
        let state = State::Waiting;
        Row {
            state,
            threads: ids.iter().map(|id| self.thread(home, id)).collect(),
            text: format!("{} is at its limit; it waits until {time}", self.label(from)),
            at: since,
            json: json!({
                "state": state.name(), "at": since, "home": folder(home), "from": from, "to": null,
                "threads": ids, "until": until, "why": null,
            }),
        }
    }

    fn moving(&self, mark: &MoveMark) -> Option<Row> {
        let home = mark.home(&self.ctx.paths)?.auth_json();
        let metas = mark.threads.iter().filter_map(|log| threads::of_log(&path_of_key(log)));
        let threads: Vec<Thread> =
            metas.map(|meta| Thread { folder: Some(self.place(&meta.cwd)), id: meta.id }).collect();
        let ids: Vec<&str> = threads.iter().map(|thread| thread.id.as_str()).collect();
        let (state, at) = (State::Moving, mark.at_ms / 1_000);
        let json = json!({
            "state": state.name(), "at": at, "home": folder(&home), "from": mark.from, "to": mark.to,
            "threads": ids, "until": null, "why": null,
        });
        let text = match self.label(&mark.from) {
            from if mark.from == mark.to => format!("its history is being put right for {from}"),
            from => format!("moving from {from} to {}", self.label(&mark.to)),
        };
        Some(Row { state, threads, text, at, json })
    }

    fn over(&self, record: &MoveRecord) -> Row {
        let home = path_of_key(&record.home);
        let (from, ago) = (self.label(&record.from), human_duration(self.now - record.at));
        let why = record.explain(self.now);
        let (state, text) = match (&record.to, &why) {
            // After its reset, or with a history that was put right.
            (Some(to), None) if *to == record.from => {
                (State::CarriedOn, format!("went on with {from} {ago} ago"))
            }
            (Some(to), None) => {
                (State::CarriedOn, format!("carried on from {from} to {} {ago} ago", self.label(to)))
            }
            (_, why) => {
                let why = why.as_deref().unwrap_or("for no known reason");
                (
                    State::Stopped,
                    format!("stopped at {from}'s limit {ago} ago, and was not carried on: {why}"),
                )
            }
        };
        let json = json!({
            "state": state.name(), "at": record.at, "home": folder(&home), "from": record.from,
            "to": record.to, "threads": record.threads, "until": null, "why": why,
        });
        let threads = record.threads.iter().map(|id| self.thread(&home, id)).collect();
        Row { state, threads, text, at: record.at, json }
    }

    fn thread(&self, auth_json: &Path, id: &str) -> Thread {
        let home = CodexHome::of_auth_json(&self.ctx.paths, auth_json);
        let meta = home.and_then(|home| threads::by_id(home.main_home(&self.ctx.paths).dir(), id));
        Thread { id: id.to_owned(), folder: meta.map(|meta| self.place(&meta.cwd)) }
    }

    fn place(&self, folder: &Path) -> String {
        short(folder, self.ctx.env.home())
    }

    fn label(&self, id: &AccountId) -> String {
        self.pool.registry().get(id).map_or_else(|| id.to_string(), |account| account.label.clone())
    }
}

/// Returns the folder of an `auth.json`.
fn folder(auth_json: &Path) -> String {
    auth_json.parent().unwrap_or(auth_json).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn row(state: State, ago: i64, ids: &[&str]) -> Row {
        let thread = |id: &&str| Thread {
            id: (*id).to_owned(),
            folder: id.starts_with('/').then(|| (*id).to_owned()),
        };
        let threads = ids.iter().map(thread).collect();
        Row { state, threads, text: format!("{} {ago}", state.name()), at: NOW - ago, json: Value::Null }
    }

    #[test]
    fn people_see_the_newest_of_each_session() {
        let rows = [
            row(State::Moving, 1, &["/a", "/b"]),
            row(State::CarriedOn, 2, &["/b", "/c"]),
            row(State::CarriedOn, 3, &["/c"]),
            row(State::Stopped, 4, &["/a"]),
        ];
        assert_eq!(lines(&rows, NOW), ["sessions in /a, /b: moving 1", "session in /c: carried_on 2"]);
    }

    #[test]
    fn session_that_went_on_long_ago_and_what_it_did_before_is_no_news() {
        let rows = [
            row(State::CarriedOn, NEWS - 1, &["/a"]),
            row(State::CarriedOn, NEWS, &["/b"]),
            row(State::Stopped, NEWS + 1, &["/b"]),
            row(State::Stopped, NEWS + 1, &["/c"]),
        ];
        let shown = lines(&rows, NOW);
        assert_eq!(shown, ["session in /a: carried_on 3599", "session in /c: stopped 3601"]);
    }

    #[test]
    fn five_lines_say_what_is_over() {
        let ids = ["/a", "/b", "/c", "/d", "/e", "/f", "/g"];
        let mut rows: Vec<Row> = ids.iter().map(|id| row(State::Stopped, 5, &[id])).collect();
        rows.push(row(State::Waiting, 5, &["/h"]));
        let shown = lines(&rows, NOW);
        assert_eq!((shown.len(), shown[4].as_str()), (6, "session in /e: stopped 5"));
        assert_eq!(shown[5], "session in /h: waiting 5");
    }

    #[test]
    fn session_without_a_log_is_named_by_its_id() {
        let one = "0199a3b2-1111-7111-8111-111111111111";
        let named = |ids: &[&str]| lines(&[row(State::Stopped, 5, ids)], NOW).concat();
        assert_eq!(named(&[one]), "session 0199a3b2: stopped 5");
        assert_eq!(named(&[one, "/a"]), "sessions 0199a3b2 and in /a: stopped 5");
        assert_eq!(named(&[]), "session: stopped 5");
    }
}
