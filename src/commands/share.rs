//! `share`: a pool on several machines. One file per command below it; here is what they have in common.

mod accounts;
mod code;
mod init;
mod join;
mod leave;
mod rotate;
mod shut_out;
mod status;

use codex_pool_core::account::{Account, AccountKind};
use codex_pool_core::auth_doc::AuthDoc;
use codex_pool_core::shared;
use codex_pool_core::{Error, ErrorKind, Result, env, renewal};
use codex_pool_share::code::Role;
use codex_pool_share::machines::Machine;
use codex_pool_share::protocol::ShareError;

pub(super) use accounts::remove_for_all;

use crate::cli::{ShareArgs, ShareCommand};
use crate::commands::refresh::note_removed;
use crate::context::{Context, OpenPool};
use crate::refresh::take_in;
use crate::share::{Config, Shared, explain};
use crate::ui;

/// The variable with the database's address, which is a secret if it has a password.
const URL: &str = "CODEX_POOL_SHARE_URL";
/// The longest name of a machine, characters.
const LONGEST_NAME: usize = 64;

pub(crate) fn run(ctx: &Context, args: &ShareArgs) -> Result<()> {
    match &args.command {
        ShareCommand::Init(args) => init::run(ctx, args),
        ShareCommand::Code(args) => code::run(ctx, args),
        ShareCommand::Join(args) => join::run(ctx, args),
        ShareCommand::Status(args) => status::run(ctx, args),
        ShareCommand::Rotate(args) => rotate::run(ctx, args),
        ShareCommand::ShutOut(args) => shut_out::run(ctx, args),
        ShareCommand::Leave(args) => leave::run(ctx, args),
        ShareCommand::Logout(args) => accounts::logout(ctx, args),
        ShareCommand::TakeOver(args) => accounts::take_over(ctx, args),
    }
}

/// Returns the shared pool.
///
/// # Errors
/// The pool is not shared.
fn shared(ctx: &Context) -> Result<Shared> {
    Shared::open(&ctx.paths)?.ok_or_else(|| {
        Error::new("this pool is not shared")
            .hint("`codex-pool share init` shares it, `codex-pool share join` joins one that is")
    })
}

/// Returns the shared pool of a member.
///
/// # Errors
/// The pool is not shared, this machine is a runner, or a rotation has begun here.
fn member(ctx: &Context) -> Result<Shared> {
    let mut shared = shared(ctx)?;
    shared.member_or_error()?;
    if shared.config().next.is_some() {
        return Err(cut_off());
    }
    Ok(shared)
}

/// Asks, unless the user has said yes already.
///
/// # Errors
/// The answer is no, or there is no terminal: `unasked` says what was not done.
fn agreed(yes: bool, question: &str, unasked: &str) -> Result<()> {
    if yes || ui::confirm(question, unasked, "--yes")? {
        return Ok(());
    }
    Err(Error::of(ErrorKind::Stopped, "nothing was changed"))
}

/// Returns that a rotation has begun here.
fn cut_off() -> Error {
    Error::new("new keys are being made on this machine, and that was cut off")
        .hint("`codex-pool share rotate` goes on with it")
}

/// Returns the shared pool of a member whose keys are those of all: what it writes is believed.
///
/// # Errors
/// As [`member`]; the keys were rotated on another machine, or the database cannot be asked.
fn current_member(ctx: &Context) -> Result<(Shared, Vec<Machine>)> {
    let mut shared = member(ctx)?;
    shared.store().check_schema().map_err(explained)?;
    let machines = shared.machines().map_err(explained)?;
    Ok((shared, machines))
}

/// Takes in what the other machines have written.
///
/// # Errors
/// The database cannot be asked, or the pool cannot be written.
fn come_into_step(ctx: &Context, shared: &mut Shared) -> Result<()> {
    let pulled = shared.pull().map_err(explained)?;
    let mut open = ctx.open()?;
    note_removed(&take_in(shared, &open.lock, &mut open.pool, &pulled, open.now)?);
    Ok(())
}

/// Explains an error of the database, for `map_err`.
fn explained(error: impl Into<ShareError>) -> Error {
    explain(&error.into())
}

/// Returns the name of this machine: the one that was given, or its host name.
///
/// # Errors
/// The name cannot be shown.
fn name_of_machine(given: Option<&str>) -> Result<String> {
    let host = nix::sys::utsname::uname().ok();
    let host = host.as_ref().and_then(|host| host.nodename().to_str());
    let Some(given) = given else {
        let host = host.and_then(|host| host.split('.').next()).unwrap_or_default();
        let kept: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        return Ok(if kept.is_empty() { "machine".to_owned() } else { kept });
    };
    let name = given.trim();
    let bad = |c: char| c == '/' || codex_pool_core::text::is_deceptive(c);
    if name.is_empty() || name.chars().count() > LONGEST_NAME || name.contains(bad) {
        return Err(Error::of(ErrorKind::Usage, "this cannot be the name of a machine")
            .hint("at most 64 characters that can be seen, and no slash"));
    }
    Ok(name.to_owned())
}

/// Enters this machine, under another name if there is a machine of its name. Returns its name.
///
/// # Errors
/// The database cannot be asked.
fn enter(shared: &mut Shared, name: &str) -> Result<String> {
    let Some(share) = shared.member() else { return Ok(name.to_owned()) };
    let names = std::iter::once(name.to_owned()).chain((2..).map(|n| format!("{name}-{n}")));
    for name in names {
        let machine = Machine { joining: true, ..Machine::new(&name, Role::Member, env::clock()) };
        if share.enter(&machine).map_err(explained)? {
            return Ok(name);
        }
    }
    Ok(name.to_owned())
}

/// Returns the accounts of this machine whose logins can be shared: those that can be renewed, and API keys.
fn logins_here(open: &OpenPool) -> Result<Vec<(Account, AuthDoc)>> {
    let mut logins = Vec::new();
    for account in &open.pool.registry().accounts {
        if let Some(doc) = open.pool.credentials().load(&account.id)?
            && (account.kind == AccountKind::ApiKey || !doc.is_access_only())
        {
            logins.push((account.clone(), doc));
        }
    }
    Ok(logins)
}

/// Returns those that the other machines should have: not what was removed on one of them.
fn own_logins(shared: &Shared, open: &OpenPool) -> Result<Vec<(Account, AuthDoc)>> {
    let state = shared.state();
    let mut logins = logins_here(open)?;
    logins.retain(|(account, doc)| !state.is_removed(&crate::share::login(account, doc)));
    Ok(logins)
}

/// The same. The pool is not locked afterwards.
fn read_own_logins(ctx: &Context, shared: &Shared) -> Result<Vec<(Account, AuthDoc)>> {
    let open = ctx.open()?;
    own_logins(shared, &open)
}

/// Offers logins of this machine to the others.
///
/// # Errors
/// The database cannot be asked.
fn push(shared: &mut Shared, logins: &[(Account, AuthDoc)]) -> Result<()> {
    let Some(share) = shared.member() else { return Ok(()) };
    for (account, doc) in logins {
        share.push(&crate::share::login(account, doc)).map_err(explained)?;
    }
    Ok(())
}

/// Writes the keys of this machine, and notes in the registry what it is.
///
/// # Errors
/// The pool cannot be written.
fn become_shared(ctx: &Context, config: &Config) -> Result<()> {
    let mut open = ctx.open()?;
    config.save(&open.lock, &ctx.paths)?;
    open.pool.set_shared(Some(match config.role() {
        Role::Member => shared::Role::Member,
        Role::Runner => shared::Role::Runner,
    }));
    // From now on the homes have documents without refresh tokens, or, on a runner, what the members renew.
    renewal::exchange_newest(&open.lock, &mut open.pool, open.now)?;
    open.commit()
}

/// Returns how many there are, in words.
fn count(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}
