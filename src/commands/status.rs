//! `status`: one line for prompts and status bars, from files alone. It takes no lock, makes no request, and never fails:
//! where there is nothing to say, it says nothing.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use codex_pool_core::env::{self, Env};
use codex_pool_core::homes::in_use::Processes;
use codex_pool_core::homes::{CodexHome, HomeContent};
use codex_pool_core::pick::Reason;
use codex_pool_core::pool::Pool;
use codex_pool_core::usage::Window;
use serde_json::{Value, json};

use crate::changes::Stamps;
use crate::cli::{Markup, StatusArgs};
use crate::context::{self, Context};
use crate::past::Past;
use crate::signals;
use crate::ui::status::{Values, line};
use crate::ui::style::Tone;
use crate::ui::{self, columns};
use crate::view::{self, AccountView, Clock, Identity, State};

/// How often `--watch` looks whether a file has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it looks at the clock: a reset may have passed.
const TICK: Duration = Duration::from_secs(30);

pub(crate) fn run(env: &Env, args: &StatusArgs) -> ExitCode {
    if args.watch {
        watch(env, args);
    } else if let Some(status) = Status::read(env, args) {
        status.print(args);
    }
    ExitCode::SUCCESS
}

/// Lets `--color` stand alone, as prompts are likely to have it.
pub(crate) fn with_colour(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.get(1).is_some_and(|verb| verb == "status") {
        let alone = |at: &usize| {
            args[*at] == "--color"
                && args.get(at + 1).is_none_or(|next| next.as_encoded_bytes().starts_with(b"-"))
        };
        if let Some(at) = (2..args.len()).find(alone) {
            args[at] = "--color=always".into();
        }
    }
    args
}

/// Prints a line per change until nothing reads it.
fn watch(env: &Env, args: &StatusArgs) {
    signals::end_with_the_pipe();
    let mut shown: Option<Value> = None;
    loop {
        let files = files(env);
        let (seen, since) = (Stamps::of(&files), Instant::now());
        if let Some(status) = Status::read(env, args)
            && shown.as_ref() != Some(&status.json)
        {
            status.print(args);
            shown = Some(status.json);
        }
        while since.elapsed() < TICK && Stamps::of(&files) == seen {
            if ui::nothing_reads() {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Returns the files that the line depends on.
fn files(env: &Env) -> Vec<PathBuf> {
    let Ok(paths) = context::paths(env) else { return Vec::new() };
    let mut files = vec![paths.registry(), paths.usage(), paths.state(), paths.config(), paths.launches()];
    files.extend(CodexHome::main_of_env(env, &paths).map(|home| home.auth_json()));
    files
}

/// Returns the context without a word about settings that are wrong: the doctor says that.
fn quiet_context(env: &Env) -> Option<Context> {
    Context::new(env, |_| ()).ok()
}

/// The line, and all that it can be made of.
struct Status {
    values: Values,
    /// The line, if the user gives no format.
    format: String,
    json: Value,
}

impl Status {
    /// `None`: there is no pool, no account, or it cannot be read.
    fn read(env: &Env, args: &StatusArgs) -> Option<Status> {
        let ctx = quiet_context(env)?;
        let pool = Pool::peek(&ctx.paths).ok()?;
        let now = env::clock();
        let ledger = Processes::read(None, &ctx.paths, now).ledger;
        let content = HomeContent::read(&ctx.paths, &ctx.main_home);
        let views = view::of_pool(&ctx, &pool, &ledger, content.account(), now);
        let identity = Identity::of(env);
        let next = view::next(&views, identity);
        let next = views.iter().find(|view| Some(&view.account.id) == next);
        // Where the live account may not be used, the next one is of interest.
        let live = |view: &&AccountView| view.live && view.ranked.reason != Reason::Elsewhere;
        let shown = views.iter().find(live).or(next).or(views.first())?;
        let format = args.format.as_deref().unwrap_or_default();
        // It is the only part that reads the history.
        let past = (args.json || format.contains("{forecast"))
            .then(|| Past::recent(&ctx.paths, &pool, &ctx.settings, now));
        let mut status = Status::of(&views, shown, next, past.as_ref(), (args, now));
        let text = line(args.format.as_ref().unwrap_or(&status.format), &status.values, args.markup());
        status.json["text"] = json!(ui::glyphs::shown(&text));
        Some(status)
    }

    fn of(
        views: &[AccountView],
        shown: &AccountView,
        next: Option<&AccountView>,
        past: Option<&Past>,
        (args, now): (&StatusArgs, i64),
    ) -> Status {
        let clock = Clock::of_system();
        let mut values = Values::default();
        let state = columns::state(shown, false);
        values.set("label", &shown.account.label, Tone::Plain);
        values.set("plan", shown.account.plan.as_deref().unwrap_or("-"), Tone::Plain);
        values.set("state", state.text.to_string(), state.tone);
        let label = |view: &AccountView| view.account.label.clone();
        values.set("next", next.map_or_else(|| "-".to_owned(), label), Tone::Plain);
        let usable = |view: &&AccountView| view.rank.is_some() && view.state == State::Ready;
        let (ready, all) =
            (views.iter().filter(usable).count(), views.iter().filter(|v| v.account.enabled).count());
        let tone = if ready > 1 {
            Tone::Good
        } else if ready == 1 {
            Tone::Middling
        } else {
            Tone::Bad
        };
        values.set("pool", format!("{ready}/{all}"), tone);
        let own = past.and_then(|past| past.accounts.iter().find(|p| p.account.id == shown.account.id));
        let forecast =
            own.and_then(|own| own.forecast(now)).filter(|(_, forecast)| forecast.limit_at.is_some());
        let words = forecast.map_or_else(String::new, |(_, forecast)| forecast.words(now));
        values.set("forecast", words, Tone::Middling);
        let windows: &[Window] = shown.usage.as_ref().map_or(&[], |usage| &usage.windows);
        let mut format = "{label}".to_owned();
        if shown.state != State::Ready {
            format.push_str(" {state}");
        }
        for window in windows {
            let (name, left) = (window.name(), window.left_percent(now));
            values.set(&name, format!("{left:.0}"), columns::tone_of(left));
            let at = window.resets_at.filter(|at| *at > now);
            let time = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            let shows_reset = match &args.format {
                Some(format) => format.contains(&format!("{name}_reset")),
                None => left < 40.0,
            };
            let reset = at.filter(|_| shows_reset).map(|at| clock.time(at, now));
            values.set(format!("{name}_reset"), time(reset), Tone::Plain);
            let distance = at.map(|at| codex_pool_core::time::human_duration(at - now));
            values.set(format!("{name}_in"), time(distance), Tone::Plain);
            let reset =
                if left < 40.0 && at.is_some() { format!(" {{{name}_reset}}") } else { String::new() };
            format.push_str(&format!(" · {} {{{name}}}%{reset}", window.words()));
        }
        if next.is_some_and(|next| next.account.id != shown.account.id) {
            format.push_str(" → {next}");
        }
        let least = windows.iter().map(|window| window.left_percent(now)).reduce(f64::min);
        let json = json!({
            "schema": 1, "text": "", "class": class(shown, least), "percentage": least.map(f64::round),
            "tooltip": args.json.then(|| tooltip(views, &clock, now)),
            "live": views.iter().find(|view| view.live).map(|view| &view.account.id),
            "next": next.map(|view| &view.account.id), "id": shown.account.id, "label": shown.account.label,
            "plan": shown.account.plan, "state": shown.state.as_str(), "low": shown.low,
            "windows": windows.iter().map(|w| view::window_json(w, now)).collect::<Vec<_>>(),
            "pool": {
                "ready": ready, "accounts": all, "ends_at": past.and_then(|past| past.pool_ends_at),
            },
            "forecast": own.map(|own| crate::past::forecast_json(own, now)),
        });
        Status { values, format, json }
    }

    fn print(&self, args: &StatusArgs) {
        if args.json {
            ui::json(&self.json);
        } else if let Some(text) = self.json["text"].as_str() {
            // The words of others are clean already; what is left are the colours.
            ui::block(text);
        }
    }
}

/// Returns a word for style sheets of bars: `good`, `low`, `out` or `unknown`.
fn class(shown: &AccountView, least: Option<f64>) -> &'static str {
    match (shown.state, least) {
        (State::Ready, _) if shown.low => "low",
        (State::Ready, Some(left)) if left < 40.0 => "low",
        (State::Ready, _) => "good",
        (State::Unknown, _) => "unknown",
        _ => "out",
    }
}

/// Returns a line per account.
fn tooltip(views: &[AccountView], clock: &Clock, now: i64) -> String {
    let line = |view: &AccountView| {
        let limits = view.usage.iter().flat_map(|usage| &usage.windows);
        let limits = limits.map(|w| format!("{} {}", w.words(), columns::limit(w, now, clock)));
        let state = columns::state(view, false).text;
        let parts: Vec<String> = std::iter::once(state.to_string()).chain(limits).collect();
        format!("{}: {}", ui::printable(&view.account.label), parts.join(", "))
    };
    views.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl StatusArgs {
    /// Returns the colours that the line gets; `None`: none.
    fn markup(&self) -> Option<Markup> {
        self.markup.or_else(|| ui::coloured().then_some(Markup::Ansi))
    }
}
