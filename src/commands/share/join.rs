//! `share join`: makes this machine one of a shared pool.

use std::io::IsTerminal;

use codex_pool_core::account::AccountKind;
use codex_pool_core::files;
use codex_pool_core::{Error, Result};
use codex_pool_share::code::{Code, Keys, NoCode, Role};
use zeroize::Zeroizing;

use super::{become_shared, count, enter, explained, logins_here, name_of_machine, own_logins, push};
use crate::cli::ShareJoinArgs;
use crate::context::Context;
use crate::refresh::take_in;
use crate::share::{Config, Shared, connect_anew};
use crate::ui;

/// The longest line with a code, bytes.
const LONGEST: u64 = 16 << 10;

pub(super) fn run(ctx: &Context, args: &ShareJoinArgs) -> Result<()> {
    let before = Config::load(&ctx.paths)?;
    let name = name_of_machine(args.name.as_deref())?;
    let line = read_line()?;
    if let Some(keys) = Config::parse(&line).filter(|keys| keys.role() == Role::Runner) {
        return join_with_keys(ctx, before.as_ref(), keys);
    }
    let code = Code::parse(&line).map_err(|e| {
        Error::new(e.to_string()).hint(match e {
            NoCode::Newer => "update with `codex-pool update`",
            NoCode::Other | NoCode::Damaged => {
                "copy the whole line that `codex-pool share code` printed on a member"
            }
        })
    })?;
    let mut store = connect_anew(&code.url)?;
    store.check_schema().map_err(explained)?;
    let used = || {
        Error::new("this code was used before, or is older than 15 minutes; nothing was changed")
            .hint("`codex-pool share code` on a member prints a new one")
    };
    // It is looked at before it is used up.
    let bundle = store.look_at_code(&code).map_err(explained)?.ok_or_else(used)?;
    let keys = code.open(&bundle).ok_or_else(|| {
        Error::new("this code does not open what the database has for it; nothing was changed")
            .hint("someone may have tampered with the database; take a new code")
    })?;
    refuse_another(before.as_ref(), &keys)?;
    let is_new = before.is_none();
    let machine = before.filter(|_| args.name.is_none()).map_or(name, |before| before.machine);
    let mut config = Config { url: code.url.clone(), machine, keys, next: None };
    let mut shared = Shared::of(config.clone(), &ctx.paths)?;
    match config.role() {
        Role::Runner => {
            refuse_own_logins(ctx)?;
            config.machine = name_of_runner(&mut shared)?;
        }
        Role::Member => {
            if is_new {
                refuse_removed(ctx, &mut shared)?;
            }
            config.machine = enter(&mut shared, &config.machine)?;
        }
    }
    let taken = store.take_code(&code).map_err(explained).and_then(|taken| taken.ok_or_else(used));
    if let Err(error) = taken {
        // A name without a machine counts as one that renews.
        let departed = shared.member().map_or(Ok(()), |share| share.depart(&config.machine));
        return departed.map_err(explained).and(Err(error));
    }
    become_shared(ctx, &config)?;
    finish(ctx, config)
}

/// Runners that live for one job have the keys of one machine in common.
fn join_with_keys(ctx: &Context, before: Option<&Config>, mut config: Config) -> Result<()> {
    refuse_another(before, &config.keys)?;
    refuse_own_logins(ctx)?;
    let mut shared = Shared::of(config.clone(), &ctx.paths)?;
    shared.store().check_schema().map_err(explained)?;
    config.machine = name_of_runner(&mut shared)?;
    become_shared(ctx, &config)?;
    finish(ctx, config)
}

/// Comes into step, and says so. What let this machine in may be used up, so it has joined, whatever the database does.
fn finish(ctx: &Context, config: Config) -> Result<()> {
    let mut shared = Shared::of(config, &ctx.paths)?;
    let shown = sync_first(ctx, &mut shared).map_err(|error| {
        let text = format!("this machine has joined, but could not read the accounts yet: {}", error.message);
        Error::new(text).hint("`codex-pool refresh` reads them")
    })?;
    let config = shared.config();
    ui::done(&format!(
        "this machine is the {} `{}` of the pool at {shown}",
        config.role().as_str(),
        config.machine
    ));
    Ok(())
}

/// Reads the code.
fn read_line() -> Result<Zeroizing<String>> {
    if std::io::stdin().is_terminal() {
        return Ok(Zeroizing::new(ui::secret("Code:")?.expose().to_owned()));
    }
    let bytes = files::read_stream(std::io::stdin().lock(), LONGEST);
    let bytes = Zeroizing::new(bytes.map_err(|e| Error::new(format!("cannot read standard input: {e}")))?);
    Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Joining again is how a machine gets the keys of a rotation. Another pool must be left first.
fn refuse_another(before: Option<&Config>, keys: &Keys) -> Result<()> {
    let Some(before) = before else { return Ok(()) };
    let (mine, theirs) = (before.keys.shared(), keys.shared());
    if mine.pool != theirs.pool {
        return Err(Error::new(
            "this code is another pool's than the one that this machine is in; nothing was changed",
        )
        .hint("`codex-pool share leave` first"));
    }
    if mine.epoch >= theirs.epoch && before.role() == keys.role() {
        return Err(Error::new("this machine is in that pool already; nothing was changed")
            .hint("`codex-pool share status` shows it; give the code to another machine"));
    }
    Ok(())
}

/// A runner shares nothing, and would never renew what it has of its own.
fn refuse_own_logins(ctx: &Context) -> Result<()> {
    let own = logins_here(&ctx.open()?)?;
    let own = own.iter().filter(|(account, _)| account.kind == AccountKind::Chatgpt).count();
    if own == 0 {
        return Ok(());
    }
    Err(Error::new(format!(
        "a runner has no logins of its own, and this machine has {}; nothing was changed",
        count(own, "login")
    ))
    .hint("join as a member (`codex-pool share code --member`), or use another pool for the runner: CODEX_POOL_HOME"))
}

/// What was removed from the pool is removed from every machine of it. A login that a new machine had on its own is not
/// what was meant.
fn refuse_removed(ctx: &Context, shared: &mut Shared) -> Result<()> {
    let own = logins_here(&ctx.open()?)?;
    if own.is_empty() {
        return Ok(());
    }
    // Its name is not entered yet.
    let removed = shared.member_or_error()?.pull_changes().map_err(explained)?.removed;
    for (account, doc) in own {
        let login = crate::share::login(&account, &doc);
        if removed.iter().any(|(id, age)| *id == login.account && login.age <= *age) {
            let (label, reference) = (&account.label, account.shell_ref());
            return Err(Error::new(format!("`{label}` was removed from that pool; nothing was changed")).hint(
                format!(
                    "a new login brings it back there: `codex-pool reauth {reference}` here, then join; or remove it \
                     here, too: `codex-pool rm {reference}`"
                ),
            ));
        }
    }
    Ok(())
}

/// Takes in the accounts of the others, and offers those of this machine. Returns where the pool is, and what there is.
fn sync_first(ctx: &Context, shared: &mut Shared) -> Result<String> {
    let pulled = shared.pull().map_err(explained)?;
    let mut open = ctx.open()?;
    take_in(shared, &open.lock, &mut open.pool, &pulled, open.now)?;
    open.pool.usage_mut().sharing_mut().tried(pulled.refused.first().map(ToString::to_string), open.now);
    open.commit()?;
    let accounts = open.pool.registry().accounts.len();
    let mut own = own_logins(shared, &open)?;
    drop(open);
    // Those of this machine that are newer, or that only this machine has.
    own.retain(|(_, doc)| {
        let mut theirs = pulled.logins.iter().filter(|login| login.account == doc.id().as_str());
        !theirs.any(|login| login.document.as_bytes() == doc.bytes())
    });
    push(shared, &own)?;
    shared.save(&ctx.lock()?, |_| {})?;
    pulled.refused.first().map_or(Ok(()), |error| Err(crate::share::explain(error)))?;
    Ok(format!("{}, with {}", shared.store().address(), count(accounts, "account")))
}

/// A runner is called what the member called it that let it in.
fn name_of_runner(shared: &mut Shared) -> Result<String> {
    let user = shared.store().address().user().map(str::to_owned);
    let machines = shared.machines().map_err(explained)?;
    let me = machines.into_iter().find(|machine| machine.user.is_some() && machine.user == user);
    Ok(me.map_or_else(|| shared.config().machine.clone(), |machine| machine.machine))
}
