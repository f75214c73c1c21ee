//! Sessions whose account reached its limit: which wait for a reset or are just moving, which were carried on, and why one
//! was not. Data for `list`, `why`, `watch` and JSON.

use std::path::Path;

use codex_pool_core::account::AccountId;
use codex_pool_core::carry::mark::MoveMark;
use codex_pool_core::carry::moves::{self, MoveRecord, Waiting};
use codex_pool_core::codex::threads::{self, ThreadMeta};
use codex_pool_core::folders::short;
use codex_pool_core::homes::CodexHome;
use codex_pool_core::pool::Pool;
use codex_pool_core::process::{Liveness, ProcessId};
use codex_pool_core::store::path_of_key;
use codex_pool_core::time::{DAY, human_duration};
use serde_json::{Value, json};

use super::Clock;
use crate::context::Context;

/// What was longer ago is not shown.
const RECENT: i64 = DAY;
/// The most that are shown of what is over.
const MOST: usize = 5;

/// What has become of sessions at a limit.
#[derive(Debug, Clone)]
pub(crate) struct MoveView {
    /// A line for people.
    pub(crate) text: String,
    json: Value,
}

/// Returns what waits or moves now, and what has become of others lately, the newest first. `me`: this process.
pub(crate) fn moves(
    ctx: &Context,
    pool: &Pool,
    me: Option<&ProcessId>,
    clock: &Clock,
    now: i64,
) -> Vec<MoveView> {
    let sight = Sight { ctx, pool, clock, now };
    let waits = |waiting: &Waiting| {
        let process = ProcessId::parse(&waiting.process);
        process.is_some_and(|process| me.is_none_or(|me| process.liveness(me) != Liveness::Dead))
    };
    let waiting = moves::waiting(&ctx.paths).into_iter().filter(waits).map(|waiting| sight.waiting(&waiting));
    let moving = MoveMark::all(&ctx.paths);
    let moving = moving.iter().filter_map(|mark| sight.moving(mark));
    let recent = |record: &MoveRecord| now.saturating_sub(record.at) < RECENT;
    let over = moves::last(&ctx.paths).into_iter().filter(recent).take(MOST);
    waiting.chain(moving).chain(over.map(|record| sight.over(&record))).collect()
}

/// Adds them to an answer in JSON.
pub(crate) fn add_to(moves: &[MoveView], answer: &mut Value) {
    answer["moves"] = moves.iter().map(|view| view.json.clone()).collect();
}

/// What is needed to put it in words.
struct Sight<'a> {
    ctx: &'a Context,
    pool: &'a Pool,
    clock: &'a Clock,
    now: i64,
}

impl Sight<'_> {
    fn waiting(&self, waiting: &Waiting) -> MoveView {
        let home = path_of_key(&waiting.home);
        let threads = [self.thread(&home, &waiting.thread)];
        let until = self.clock.time_and_distance(waiting.until, self.now);
        let what = format!("{} is at its limit; it waits until {until}", self.label(&waiting.account));
        self.view(
            &threads,
            &what,
            json!({
                "state": "waiting", "at": waiting.since, "home": folder(&home), "from": waiting.account, "to": null,
                "threads": [waiting.thread], "until": waiting.until, "why": null,
            }),
        )
    }

    fn moving(&self, mark: &MoveMark) -> Option<MoveView> {
        let home = mark.home(&self.ctx.paths)?.auth_json();
        let threads: Vec<_> = mark.threads.iter().map(|log| threads::of_log(&path_of_key(log))).collect();
        let ids: Vec<&str> = threads.iter().flatten().map(|thread| thread.id.as_str()).collect();
        let json = json!({
            "state": "moving", "at": mark.at_ms / 1_000, "home": folder(&home), "from": mark.from, "to": mark.to,
            "threads": ids, "until": null, "why": null,
        });
        let what = match self.label(&mark.from) {
            from if mark.from == mark.to => format!("its history is being put right for {from}"),
            from => format!("moving from {from} to {}", self.label(&mark.to)),
        };
        Some(self.view(&threads, &what, json))
    }

    fn over(&self, record: &MoveRecord) -> MoveView {
        let home = path_of_key(&record.home);
        let threads: Vec<_> = record.threads.iter().map(|id| self.thread(&home, id)).collect();
        let (from, ago) = (self.label(&record.from), human_duration(self.now - record.at));
        let why = record.explain(self.now);
        let (state, what) = match (&record.to, &why) {
            // After its reset, or with a history that was put right.
            (Some(to), None) if *to == record.from => {
                ("carried_on", format!("went on with {from} {ago} ago"))
            }
            (Some(to), None) => {
                ("carried_on", format!("carried on from {from} to {} {ago} ago", self.label(to)))
            }
            (_, why) => {
                let why = why.as_deref().unwrap_or("for no known reason");
                ("stopped", format!("stopped at {from}'s limit {ago} ago, and was not carried on: {why}"))
            }
        };
        let json = json!({
            "state": state, "at": record.at, "home": folder(&home), "from": record.from, "to": record.to,
            "threads": record.threads, "until": null, "why": why,
        });
        self.view(&threads, &what, json)
    }

    fn view(&self, threads: &[Option<ThreadMeta>], what: &str, json: Value) -> MoveView {
        let mut folders: Vec<String> =
            threads.iter().flatten().map(|thread| self.place(&thread.cwd)).collect();
        folders.sort();
        folders.dedup();
        let sessions = if threads.len() > 1 { "sessions" } else { "session" };
        let text = match folders.as_slice() {
            [] => format!("{sessions}: {what}"),
            folders => format!("{sessions} in {}: {what}", folders.join(", ")),
        };
        MoveView { text, json }
    }

    fn thread(&self, auth_json: &Path, id: &str) -> Option<ThreadMeta> {
        let home = CodexHome::of_auth_json(&self.ctx.paths, auth_json)?;
        threads::by_id(home.main_home(&self.ctx.paths).dir(), id)
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
