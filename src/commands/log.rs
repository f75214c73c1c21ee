//! `log`: shows what the pool did. `why --last` explains the last launch from it.

use codex_pool_core::account::{Account, AccountId};
use codex_pool_core::journal::{self, Entry, Event};
use codex_pool_core::store::{Registry, path_of_key};
use codex_pool_core::{Result, env, folders, references};
use serde_json::{Value, json};

use crate::cli::LogArgs;
use crate::context::Context;
use crate::ui;
use crate::ui::log::Line;
use crate::view::Clock;

pub(crate) fn run(ctx: &Context, args: &LogArgs) -> Result<()> {
    let accounts = Registry::load(&ctx.paths)?.accounts;
    let wanted = match &args.account {
        Some(name) => Some(references::resolve(&accounts, name)?.id.clone()),
        None => None,
    };
    let now = env::clock();
    let since = i64::try_from(args.since.as_secs()).unwrap_or(i64::MAX);
    let concerns = |entry: &Entry| wanted.is_none() || entry.account == wanted || entry.from == wanted;
    let mut entries = journal::read(&ctx.paths, now.saturating_sub(since));
    entries.retain(concerns);
    if args.json {
        let entries: Vec<Value> = entries.iter().map(|entry| as_json(entry, &accounts)).collect();
        ui::json(&json!({ "schema": 1, "entries": entries }));
        return Ok(());
    }
    let clock = Clock::of_system();
    let lines: Vec<Line> = entries.iter().map(|entry| line(ctx, entry, &accounts, &clock, now)).collect();
    ui::log::lines(&lines);
    Ok(())
}

/// Explains the last launch.
pub(super) fn last_launch(ctx: &Context, json: bool) -> Result<()> {
    let accounts = Registry::load(&ctx.paths)?.accounts;
    let mut entries = journal::read(&ctx.paths, 0);
    let is_launch = |entry: &Entry| {
        entry.event == Event::Launch || entry.event == Event::Refusal && entry.command.is_some()
    };
    entries.retain(is_launch);
    let last = entries.pop();
    if json {
        ui::json(&json!({ "schema": 1, "launch": last.map(|entry| as_json(&entry, &accounts)) }));
        return Ok(());
    }
    let Some(last) = last else {
        ui::line("No launch is in the log.");
        return Ok(());
    };
    let line = line(ctx, &last, &accounts, &Clock::of_system(), env::clock());
    let who = line.account.as_deref().unwrap_or("no account of the pool");
    let command = last.command.as_deref().unwrap_or("codex");
    let place = folder(ctx, &last).map_or_else(String::new, |folder| format!(" in {folder}"));
    let ran = if last.event == Event::Launch { format!("ran as {who}") } else { "was refused".to_owned() };
    ui::line(&format!("{}: `{command}`{place} {ran}", line.time));
    if let Some(why) = &last.why {
        ui::line(&format!("  because: {why}"));
    }
    if let Some(from) = &last.from {
        ui::line(&format!("  {} was live before", label(&accounts, from)));
    }
    if last.own_home {
        ui::line("  in a home of its own, beside the sessions in CODEX_HOME");
    }
    Ok(())
}

fn label(accounts: &[Account], id: &AccountId) -> String {
    let account = accounts.iter().find(|account| account.id == *id);
    account.map_or_else(|| format!("{id} (removed)"), |account| account.label.clone())
}

fn folder(ctx: &Context, entry: &Entry) -> Option<String> {
    let folder = path_of_key(entry.folder.as_deref()?);
    Some(folders::short(&folder, ctx.env.home()))
}

/// Returns an entry as people read it.
pub(super) fn line(ctx: &Context, entry: &Entry, accounts: &[Account], clock: &Clock, now: i64) -> Line {
    let from = entry.from.as_ref().map(|id| label(accounts, id));
    let mut details = Vec::new();
    if let Some(command) = &entry.command {
        let place = folder(ctx, entry).map_or_else(String::new, |folder| format!(" in {folder}"));
        details.push(format!("{command}{place}"));
    }
    match (entry.event, &from) {
        (Event::Carried, Some(from)) => details.push(format!("goes on with the work of {from}")),
        (_, Some(from)) => details.push(format!("was {from}")),
        _ => {}
    }
    if entry.own_home {
        details.push("in a home of its own".to_owned());
    }
    details.extend(entry.why.clone());
    Line {
        time: clock.time(entry.at, now),
        event: entry.event.as_str().replace('_', " "),
        account: entry.account.as_ref().map(|id| label(accounts, id)),
        details: details.join("; "),
        bad: matches!(entry.event, Event::Refusal | Event::LoginEnded | Event::Limit),
    }
}

fn as_json(entry: &Entry, accounts: &[Account]) -> Value {
    let mut value = json!(entry);
    value["folder"] =
        json!(entry.folder.as_deref().map(|key| path_of_key(key).to_string_lossy().into_owned()));
    value["label"] = json!(entry.account.as_ref().map(|id| label(accounts, id)));
    value["from_label"] = json!(entry.from.as_ref().map(|id| label(accounts, id)));
    value
}
