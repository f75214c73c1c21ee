//! `share init`: puts the accounts of this machine into a database, for others to join.

use codex_pool_core::pool::Pool;
use codex_pool_core::{Error, ErrorKind, Result, env};
use codex_pool_share::code::{Keys, Role};
use codex_pool_share::keys::{MemberKeys, PoolId, PoolKey};
use codex_pool_share::machines::Machine;

use super::{URL, become_shared, count, explained, name_of_machine, own_logins, push};
use crate::cli::ShareInitArgs;
use crate::context::Context;
use crate::share::{Config, Shared};
use crate::ui;

pub(super) fn run(ctx: &Context, args: &ShareInitArgs) -> Result<()> {
    let begun = Config::load(&ctx.paths)?;
    let known = Pool::peek(&ctx.paths)?.shared();
    if begun.is_some() && known.is_some() {
        return Err(Error::new("this pool is shared already")
            .hint("`codex-pool share status` shows it; `codex-pool share leave` ends that"));
    }
    let (config, is_new) = match begun {
        // It was cut off before. The database may have a part of this pool.
        Some(config) if args.url.is_none() || args.url.as_ref() == Some(&config.url) => (config, false),
        _ => {
            let keys = MemberKeys::new(PoolId::random(), 1, PoolKey::random());
            let (url, machine) = (url(ctx, args)?, name_of_machine(args.name.as_deref())?);
            (Config { url, machine, keys: Keys::Member(Box::new(keys)), next: None }, true)
        }
    };
    let mut shared = Shared::of(config.clone(), &ctx.paths)?;
    shared.store().create_tables().map_err(explained)?;
    if is_new && !args.another && shared.store().other_pools().map_err(explained)? > 0 {
        return Err(Error::new("a pool is shared in this database already; nothing was changed").hint(
            "join it: `codex-pool share code --member` on a machine of it, `codex-pool share join` here; or share this \
             one beside it with `--another`",
        ));
    }
    let open = ctx.open()?;
    let logins = own_logins(&shared, &open)?;
    let left_out = open.pool.registry().accounts.len() - logins.len();
    config.save(&open.lock, &ctx.paths)?;
    // The pool is not locked while the database is asked.
    drop(open);
    // The pool is new. A machine of this name is this one, which was cut off before.
    let me = Machine::new(&config.machine, Role::Member, env::clock());
    shared.member_or_error()?.enter(&me).map_err(explained)?;
    push(&mut shared, &logins)?;
    become_shared(ctx, &config)?;
    let mut open = ctx.open()?;
    open.pool.usage_mut().sharing_mut().tried(None, open.now);
    open.commit()?;
    shared.save(&open.lock, |_| {})?;
    drop(open);
    ui::done(&format!(
        "this pool is shared now, as the member `{}`: {}",
        config.machine,
        count(logins.len(), "account")
    ));
    if left_out > 0 {
        ui::note(&format!(
            "{} without a refresh token cannot be renewed, and not shared",
            count(left_out, "account")
        ));
    }
    ui::note(
        "another machine joins with a code: `codex-pool share code --member` here prints one, `codex-pool share join` \
         there reads it",
    );
    Ok(())
}

/// Returns the database's address, which is a secret if it has a password.
fn url(ctx: &Context, args: &ShareInitArgs) -> Result<String> {
    if let Some(url) = args.url.clone().or_else(|| ctx.env.text(URL).map(str::to_owned)) {
        return Ok(url);
    }
    if !ui::interactive() {
        return Err(Error::of(ErrorKind::Usage, "where is the database?")
            .hint(format!("name it: `codex-pool share init URL`, or set {URL}")));
    }
    Ok(ui::secret("Address of the database (postgres://user:password@host/database):")?.expose().to_owned())
}
