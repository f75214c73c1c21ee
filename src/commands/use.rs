//! `use`: makes an account live and pins it, makes the best one live, or lets the pool choose again.

use std::time::Duration;

use codex_pool_core::account::{Account, AccountId, AuthState};
use codex_pool_core::codex::background_server::{self, BackgroundServer};
use codex_pool_core::codex::find;
use codex_pool_core::config::Parallel;
use codex_pool_core::folders::{FolderRules, short};
use codex_pool_core::homes::in_use::{HomeUser, UserKind};
use codex_pool_core::homes::{self, AuthFile, HomeContent, Obstacle, elsewhere};
use codex_pool_core::launch::{candidates, usable_by_name};
use codex_pool_core::ledger::{self, LaunchEntry};
use codex_pool_core::pick::pick;
use codex_pool_core::store::{ServerRecord, path_key, path_of_key};
use codex_pool_core::{Error, ErrorKind, Result, references};

use crate::cli::UseArgs;
use crate::context::{Context, OpenPool};
use crate::{ui, view};

/// The time limit of a restart.
const RESTART_LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn run(ctx: &Context, args: &UseArgs) -> Result<()> {
    let chosen;
    let args = match (&args.account, args.best || args.auto) {
        (None, false) => match choose(ctx)? {
            Some(choice) => {
                chosen = UseArgs { account: choice.account, auto: choice.auto, ..args.clone() };
                &chosen
            }
            None => return Ok(()),
        },
        _ => args,
    };
    if args.auto {
        return unpin(ctx, args.json);
    }
    let mut agreed = Vec::new();
    let (mut open, id, stays) = loop {
        let open = ctx.open()?;
        let id = wanted(ctx, &open, args)?;
        match in_the_way(ctx, &open, &id, args, &agreed)? {
            None => break (open, id, None),
            Some(InTheWay::BeingWritten) => {
                drop(open);
                homes::wait_until_whole(&ctx.paths, &ctx.main_home);
            }
            Some(InTheWay::Users(users)) if !args.restart_server && !args.now => {
                break (open, id, Some(users));
            }
            // The pool is not locked while a question is open, so everything is checked again after the answer.
            Some(InTheWay::Users(users)) => {
                let restarts =
                    args.restart_server && BackgroundServer::of_home(ctx.main_home.dir()).is_some();
                let question = Question::new(&open, &id, &users, restarts);
                drop(open);
                question.ask(args.now)?;
                agreed = users;
            }
        }
    };
    if let Some(fixed) = fixed_elsewhere(ctx, &open, &id) {
        return pin_only(&mut open, id, &fixed, args);
    }
    let server = BackgroundServer::of_home(ctx.main_home.dir());
    if stays.is_none() && open.in_main_home != (HomeContent::Account { id: id.clone(), stale: false }) {
        if server_is_idle(server.as_ref()) && !args.restart_server {
            stop(ctx, server.as_ref());
        }
        if matches!(open.in_main_home, HomeContent::BeingWritten | HomeContent::Broken) {
            homes::clear_broken(&open.lock, &mut open.pool, &ctx.main_home, open.now)?;
        }
        let disturbs = !agreed.is_empty() || open.live() == Some(&id);
        let put = if disturbs { homes::put } else { homes::put_in_free };
        elsewhere::settle_for(&open.lock, &open.pool, &ctx.main_home, &id, &ctx.env)?;
        put(&open.lock, &mut open.pool, &open.processes, &ctx.main_home, &id, open.now)?;
    }
    let pin = std::mem::replace(&mut open.pool.state_mut().pin, (!args.best).then(|| id.clone()));
    open.commit()?;
    if args.json {
        ui::json(&as_json(&open, Some(&id), stays.is_none(), stays.as_deref().unwrap_or_default()));
    } else {
        match &stays {
            None => tell(&open, &id, pin, args.best),
            Some(users) => tell_later(ctx, &open, &id, users, args.best),
        }
    }
    let account = open.pool.registry().get(&id).filter(|account| !args.best && !account.folders.is_empty());
    if let Some(account) = account {
        let folders: Vec<String> =
            account.folders.iter().map(|folder| short(&path_of_key(folder), ctx.env.home())).collect();
        ui::note(&format!("it is used only in {}; elsewhere launches pick another one", folders.join(", ")));
    }
    if stays.is_none() {
        for home in view::homes(ctx, &open).iter().filter(|home| home.also_has(&id, &ctx.main_home)) {
            ui::note(&format!("{}; it shares its login with the live one", home.line()));
        }
    }
    drop(open);
    match (args.restart_server, server) {
        (true, Some(_)) => restart(ctx, &id),
        (true, None) => {
            ui::note("no background server runs here");
            Ok(())
        }
        (false, _) => Ok(()),
    }
}

/// Returns what keeps the login of the main home from being replaced, unless that is this account's.
fn fixed_elsewhere(ctx: &Context, open: &OpenPool, id: &AccountId) -> Option<Obstacle> {
    let file = AuthFile::find(&ctx.paths, ctx.main_home.auth_json()).ok()?;
    Obstacle::of(&file).filter(|_| open.live() != Some(id))
}

/// Pins an account whose launches get a home of their own, since it cannot be made live.
fn pin_only(open: &mut OpenPool, id: AccountId, fixed: &Obstacle, args: &UseArgs) -> Result<()> {
    let label = open.label(&id);
    if args.best {
        return Err(Error::new(format!("`{label}` cannot be made live: {fixed}"))
            .hint("nothing needs to be done: launches use it in a home of its own"));
    }
    open.pool.state_mut().pin = Some(id.clone());
    open.commit()?;
    if args.json {
        ui::json(&as_json(open, Some(&id), false, &[]));
        return Ok(());
    }
    ui::done(&format!("`{label}` is pinned; `codex-pool use --auto` unpins it"));
    ui::note(&format!("it is not live but in a home of its own, since {fixed}"));
    Ok(())
}

/// What the user chose from a list.
struct Chosen {
    account: Option<String>,
    auto: bool,
}

fn no_accounts() -> Error {
    Error::of(ErrorKind::NoUsableAccount, "the pool has no accounts yet")
        .hint("`codex-pool add` logs in to one")
}

/// Offers the accounts, on a terminal. `None`: the user wants none.
fn choose(ctx: &Context) -> Result<Option<Chosen>> {
    let open = ctx.open()?;
    let views = view::accounts(ctx, &open);
    let pinned = open.pool.state().pin.is_some();
    // The pool is not locked while the question is open.
    drop(open);
    if !ui::interactive() {
        return Err(Error::of(ErrorKind::Usage, "no account is named")
            .hint("`codex-pool use <account>`, `codex-pool use --best` or `codex-pool use --auto`"));
    }
    if views.is_empty() {
        return Err(no_accounts());
    }
    let mut answers = ui::table::choices(&views, ctx.env.now);
    answers.push(match pinned {
        true => "no pin: every launch picks".to_owned(),
        false => "no pin, as now: every launch picks".to_owned(),
    });
    let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
    let Some(at) = ui::choose("Which account should launches use?", &answers)? else { return Ok(None) };
    let account = views.get(at).map(|view| view.account.id.to_string());
    Ok(Some(Chosen { auto: account.is_none(), account }))
}

/// Returns `{"schema":1,"account":…,"pinned":…,"live":…,"waits_for":[…]}`. `users`: the processes that keep the main
/// home from changing hands.
fn as_json(open: &OpenPool, id: Option<&AccountId>, live: bool, users: &[HomeUser]) -> serde_json::Value {
    serde_json::json!({
        "schema": 1, "account": id,
        "pinned": id.is_some() && open.pool.state().pin.as_ref() == id,
        "live": live,
        "waits_for": users.iter().map(|user| user.pid).collect::<Vec<_>>(),
    })
}

fn unpin(ctx: &Context, json: bool) -> Result<()> {
    let mut open = ctx.open()?;
    let pin = open.pool.state_mut().pin.take();
    open.commit()?;
    if json {
        ui::json(&as_json(&open, None, false, &[]));
        return Ok(());
    }
    let account = pin.and_then(|id| open.pool.registry().get(&id));
    ui::done(&match account {
        Some(account) => format!(
            "`{}` is no longer pinned; every launch picks again (`codex-pool use {}` pins it)",
            account.label,
            account.shell_ref()
        ),
        None => "nothing was pinned; every launch picks".to_owned(),
    });
    Ok(())
}

/// Says what changed, and how to undo it.
fn tell(open: &OpenPool, id: &AccountId, pin: Option<AccountId>, best: bool) {
    let label = open.label(id);
    if !best {
        return ui::done(&format!("`{label}` is live and pinned; `codex-pool use --auto` unpins it"));
    }
    ui::done(&format!("`{label}` is live; nothing is pinned, so later launches pick again"));
    if let Some(account) = pin.and_then(|id| open.pool.registry().get(&id)) {
        ui::note(&format!(
            "`{}` was pinned; `codex-pool use {}` pins it again",
            account.label,
            account.shell_ref()
        ));
    }
}

/// Says what launches do while the main home stays as it is.
fn tell_later(ctx: &Context, open: &OpenPool, id: &AccountId, users: &[HomeUser], best: bool) {
    let label = open.label(id);
    ui::done(&match best {
        false => {
            format!("`{label}` is pinned: launches use it from now on; `codex-pool use --auto` unpins it")
        }
        true => format!("nothing is pinned; launches pick `{label}` now"),
    });
    let dir = short(ctx.main_home.dir(), ctx.env.home());
    let live = open.live().map_or_else(|| "its login".to_owned(), |id| format!("`{}`", open.label(id)));
    let names: Vec<String> = users.iter().map(HomeUser::describe).collect();
    let word = open.pool.registry().get(id).map_or_else(|| id.to_string(), |a| a.shell_ref().to_owned());
    let what = if best { "--best".to_owned() } else { word };
    let beside = match ctx.settings.parallel {
        Parallel::Home => "new sessions run beside that",
        Parallel::Off => "until then launches stay on it, since parallel = \"off\"",
    };
    ui::note(&format!(
        "{dir} keeps {live} while {} uses it; {beside}. `codex-pool use {what} --now` switches at once",
        names.join(", ")
    ));
}

/// Returns the account that the user wants, if it can be used.
fn wanted(ctx: &Context, open: &OpenPool, args: &UseArgs) -> Result<AccountId> {
    if let Some(reference) = &args.account {
        let account = references::resolve(&open.pool.registry().accounts, reference)?;
        needs_login(open, account)?;
        // The pin is for all folders. In those of other accounts it does not count.
        usable_by_name(&open.pool, &ctx.codex, &FolderRules::default(), account, open.now)?;
        return Ok(account.id.clone());
    }
    let has = |id: &AccountId| open.pool.credentials().has(id);
    let rules = ctx.rules(&open.pool);
    let candidates =
        candidates(&open.pool, &open.processes.ledger, open.live(), &ctx.codex, &rules, has, open.now);
    let ranking = pick(&candidates, open.now, &ctx.settings);
    match ranking.first().filter(|r| r.eligible()) {
        Some(best) => Ok(candidates[best.index].account.id.clone()),
        None if candidates.is_empty() => Err(no_accounts()),
        None => {
            Err(Error::of(ErrorKind::NoUsableAccount, "no account can be used").hint("see `codex-pool why`"))
        }
    }
}

fn needs_login(open: &OpenPool, account: &Account) -> Result<()> {
    if account.auth.state == AuthState::ReauthRequired || account.access_ended(open.now) {
        return account.trouble(open.now).map_or(Ok(()), Err);
    }
    if !open.pool.credentials().has(&account.id) {
        return Err(Error::of(
            ErrorKind::LoginNeeded,
            format!("the pool has no credentials for {}", account.display()),
        )
        .hint(format!("`codex-pool reauth {}`", account.shell_ref())));
    }
    Ok(())
}

/// Why an account cannot be made live at once.
enum InTheWay {
    /// auth.json is just being written.
    BeingWritten,
    /// These processes would be disturbed.
    Users(Vec<HomeUser>),
}

/// Returns what keeps the main home from changing hands, or its server from being restarted. `agreed`: the processes
/// that the user agreed to disturb.
fn in_the_way(
    ctx: &Context,
    open: &OpenPool,
    id: &AccountId,
    args: &UseArgs,
    agreed: &[HomeUser],
) -> Result<Option<InTheWay>> {
    let dir = ctx.main_home.dir().display();
    match &open.in_main_home {
        HomeContent::Unmanaged(kind) => {
            return Err(Error::new(format!("{dir} holds {kind}, which is never overwritten"))
                .hint("move its auth.json away first"));
        }
        HomeContent::Foreign => {
            return Err(Error::new(format!("{dir} has a login that is not the pool's, so it is left alone"))
                .hint("`codex-pool init` takes it in"));
        }
        HomeContent::Unreadable(why) => {
            return Err(Error::new(format!("{}: {why}", ctx.main_home.auth_json().display()))
                .hint("`codex-pool doctor` says what is wrong with it"));
        }
        HomeContent::BeingWritten => return Ok(Some(InTheWay::BeingWritten)),
        HomeContent::Account { id: live, .. } if live == id && !args.restart_server => return Ok(None),
        HomeContent::Broken | HomeContent::Empty | HomeContent::Account { .. } => {}
    }
    let mut users = ctx.users_before_change(open, &ctx.main_home);
    obey_folders(ctx, open, id, &users)?;
    if open.live() == Some(id) {
        // Nothing is switched. The restart disturbs the server and what is attached to it.
        let attached = attached(ctx, open);
        users.retain(|user| {
            user.kind == UserKind::BackgroundServer || user.pid.is_some_and(|pid| attached.contains(&pid))
        });
    }
    Ok(users.iter().any(|user| !agreed.contains(user)).then_some(InTheWay::Users(users)))
}

/// Checks that no session which would be switched works in a folder that forbids the account.
fn obey_folders(ctx: &Context, open: &OpenPool, id: &AccountId, users: &[HomeUser]) -> Result<()> {
    let accounts = &open.pool.registry().accounts;
    for launch in &open.processes.ledger.launches {
        let Some(entry) =
            launch.entry.as_ref().filter(|_| users.iter().any(|user| user.pid == Some(launch.process.pid)))
        else {
            continue;
        };
        if let Some(why) = entry.rules(accounts, ctx.env.home()).objection(id) {
            return Err(Error::of(
                ErrorKind::NoUsableAccount,
                format!(
                    "{} (pid {}) would go on as `{}`, which may not be used there: {why}",
                    entry.command,
                    launch.process.pid,
                    open.label(id)
                ),
            )
            .hint("end it first, or change its folders with `codex-pool set`"));
        }
    }
    Ok(())
}

/// Returns the interfaces that are attached to the background server of the main home.
fn attached(ctx: &Context, open: &OpenPool) -> Vec<u32> {
    let codex_home = path_key(&ctx.main_home.auth_json());
    let launches = open.processes.ledger.launches.iter();
    let attached = launches.filter(|l| l.entry.as_ref().is_some_and(|e| e.attached && e.home == codex_home));
    attached.map(|launch| launch.process.pid).collect()
}

/// The question before processes are disturbed.
struct Question {
    warnings: Vec<String>,
    question: String,
    /// What is said where nobody can be asked.
    unasked: String,
    refusal: Error,
}

impl Question {
    /// `restarts`: the background server is restarted, and moves to the account with what is attached to it.
    fn new(open: &OpenPool, id: &AccountId, users: &[HomeUser], restarts: bool) -> Self {
        let launch_of = |pid: u32| open.processes.ledger.launches.iter().find(|l| l.process.pid == pid);
        let moves = |user: &&HomeUser| {
            let entry = user.pid.and_then(launch_of).and_then(|launch| launch.entry.as_ref());
            restarts && (user.kind == UserKind::BackgroundServer || entry.is_some_and(|entry| entry.attached))
        };
        let names = |users: Vec<&HomeUser>| -> String {
            users.into_iter().map(HomeUser::describe).collect::<Vec<_>>().join(", ")
        };
        let (moving, others): (Vec<&HomeUser>, Vec<&HomeUser>) = users.iter().partition(moves);
        let label = open.label(id);
        let live =
            open.live().map_or_else(|| "the login there".to_owned(), |id| format!("`{}`", open.label(id)));
        let mut warnings = Vec::new();
        if !moving.is_empty() {
            warnings.push(format!(
                "{} will continue as `{label}` after a restart of the background server, which interrupts running work",
                names(moving)
            ));
        }
        if !others.is_empty() {
            let stop = match others.len() {
                1 => "it stops with an error at its next token renewal",
                _ => "they stop with an error at their next token renewal",
            };
            warnings.push(format!("{live} is in use by {}. After a switch {stop}", names(others)));
        }
        let word = open.pool.registry().get(id).map_or_else(|| id.to_string(), |a| a.shell_ref().to_owned());
        Question {
            warnings,
            question: format!("Switch to `{label}` anyway?"),
            unasked: format!("{live} is in use, nothing was switched"),
            refusal: Error::of(ErrorKind::Stopped, "nothing was switched")
                .hint(format!("`codex-pool use {word}` lets new launches use it, and disturbs nothing")),
        }
    }

    /// Warns about what is disturbed, and asks unless `--now` answers.
    fn ask(self, now: bool) -> Result<()> {
        for warning in &self.warnings {
            ui::warn(warning);
        }
        if now || ui::confirm(&self.question, &self.unasked, "--now")? { Ok(()) } else { Err(self.refusal) }
    }
}

fn server_is_idle(server: Option<&BackgroundServer>) -> bool {
    server.is_some_and(|server| server.holds_thread() == Some(false))
}

/// Stops an idle server, which would continue with the old account.
fn stop(ctx: &Context, server: Option<&BackgroundServer>) {
    if let (Some(server), Ok(codex)) = (server, find::find(&ctx.env, &ctx.settings, None)) {
        server.stop(&codex);
    }
}

/// Restarts the background server, which then reads the new account, and records what moved with it.
fn restart(ctx: &Context, id: &AccountId) -> Result<()> {
    let failed = |why: String| {
        Error::new(format!("the account is switched, but the background server continues as before: {why}"))
            .hint("`codex app-server daemon restart`, or quit the interfaces that use it")
    };
    let codex = find::find(&ctx.env, &ctx.settings, None).map_err(|e| failed(e.to_string()))?;
    let server = background_server::restart(&codex, ctx.main_home.dir(), RESTART_LIMIT)
        .map_err(|e| failed(e.to_string()))?;
    let mut open = ctx.open()?;
    // After another switch meanwhile it is unknown which account the server read.
    if open.live() != Some(id) {
        return Ok(());
    }
    let key = path_key(&ctx.main_home.auth_json());
    if let Some(memory) = open.pool.state_mut().homes.get_mut(&key) {
        let (pid, start_ticks) = (server.pid, server.start_ticks);
        memory.server = Some(ServerRecord { pid, start_ticks, account: Some(id.clone()) });
    }
    let attached = attached(ctx, &open);
    for launch in open.processes.ledger.launches.iter().filter(|l| attached.contains(&l.process.pid)) {
        if let Some(entry) = launch.entry.clone() {
            ledger::record(&ctx.paths, &launch.process, &LaunchEntry { account: Some(id.clone()), ..entry })?;
        }
    }
    open.commit()?;
    let label = open.label(id);
    drop(open);
    ui::done(&match attached.len() {
        0 => format!("the background server was restarted as `{label}`"),
        _ => format!("the background server was restarted; what is attached to it continues as `{label}`"),
    });
    Ok(())
}
