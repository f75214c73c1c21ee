//! `share rotate`: new keys, for a machine that was lost. It has every login with its refresh token, so all of them are
//! renewed at once. The other machines join again.
//!
//! The order matters. The new keys are on disk before anything is written with them. Then every account is marked under
//! the old keys, so that a machine which has only those renews nothing any more, and everything is written anew. When
//! the old rows are removed, the rotation is done. Whatever is cut off before goes on when the command is run again.

use std::time::{Duration, Instant};

use codex_pool_core::account::{Account, AccountKind};
use codex_pool_core::auth_doc::AuthDoc;
use codex_pool_core::files::RenewalLock;
use codex_pool_core::{Error, Result, env};
use codex_pool_share::clock;
use codex_pool_share::code::{Keys, Role};
use codex_pool_share::login::{Lease, LeaseState};
use codex_pool_share::machines::Machine;
use codex_pool_share::protocol::{Begun, ShareError};
use codex_pool_share::record::{Kind, Refused};
use codex_pool_share::rotate::{ROTATION, Rotating};

use super::{URL, agreed, become_shared, count, explained, push, read_own_logins, shared};
use crate::cli::ShareRotateArgs;
use crate::commands::refresh::note_removed;
use crate::context::Context;
use crate::refresh::{Outcome, Refresher, take_in, take_login};
use crate::share::{Config, Shared};
use crate::ui;

/// How long a machine is waited for that is renewing an account.
const PATIENCE: Duration = Duration::from_secs(120);
/// The time between two looks.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(super) fn run(ctx: &Context, args: &ShareRotateArgs) -> Result<()> {
    let mut old = shared(ctx)?;
    old.member_or_error()?;
    agreed(
        args.yes,
        "Make new keys? Every other machine is locked out until it joins again, and all accounts are renewed.",
        "new keys are made only after a yes, nothing was changed",
    )?;
    let mut config = old.config().clone();
    let url = args.url.clone().or_else(|| ctx.env.text(URL).map(str::to_owned));
    let has_new_address = url.as_ref().is_some_and(|url| *url != config.url);
    if let Some(url) = url {
        config.url = url;
        old = Shared::of(config.clone(), &ctx.paths)?;
    }
    old.store().check_schema().map_err(explained)?;
    let path = ctx.paths.refresh_lock();
    let alone = RenewalLock::acquire(&ctx.paths, PATIENCE).map_err(|e| Error::io("lock", &path, &e))?;
    let alone = alone.ok_or_else(|| Error::new("another renewal takes too long").hint("try again"))?;
    let next = begin(ctx, &mut config)?;
    let mut new = Shared::of(Config { keys: next.clone(), next: None, ..config.clone() }, &ctx.paths)?;
    let epoch = next.shared().epoch;
    let mut locked_out = Vec::new();
    match new.store().rows_before(epoch).map_err(explained)? {
        // It was cut off after its last step, and is only finished here; or another machine was faster.
        0 => refuse_keys_of_another(ctx, &mut new, &mut config)?,
        _ => locked_out = move_all(ctx, &mut old, &mut new, epoch)?,
    }
    let known = old.state();
    become_shared(ctx, new.config())?;
    new.save(&ctx.lock()?, |state| {
        state.tickets = known.tickets;
        state.removals = known.removals;
    })?;
    ui::done(&format!("this pool has new keys (epoch {epoch})"));
    drop(alone);
    let failed = renew(ctx)?;
    let logins = read_own_logins(ctx, &new)?;
    push(&mut new, &logins)?;
    new.save(&ctx.lock()?, |_| {})?;
    if !locked_out.is_empty() {
        ui::note(&format!(
            "locked out until they join again, with a new code each: {}",
            locked_out.join(", ")
        ));
    }
    if !has_new_address {
        ui::note(
            "a lost machine still knows the password of the database: change it there, and run this again with the new \
             address in `--url`",
        );
    }
    match failed {
        0 => Ok(()),
        n => Err(Error::new(format!("the tokens of {} could not be renewed", count(n, "account")))
            .hint(
                "a lost machine has them: run `codex-pool share rotate` again, or log in anew with `codex-pool reauth`, \
                 which is safe at once",
            )),
    }
}

/// Makes the new keys, and has them on disk.
fn begin(ctx: &Context, config: &mut Config) -> Result<Keys> {
    let next = match (&config.next, &config.keys) {
        (Some(next), _) => next.clone(),
        (None, Keys::Member(keys)) => Keys::Member(Box::new(keys.rotated())),
        (None, Keys::Runner(_)) => return Err(Error::new("a runner has no keys to rotate")),
    };
    config.next = Some(next.clone());
    config.save(&ctx.lock()?, &ctx.paths)?;
    Ok(next)
}

/// Checks that what is in the database was written with the new keys of this machine.
fn refuse_keys_of_another(ctx: &Context, new: &mut Shared, config: &mut Config) -> Result<()> {
    let is_there = match new.machines() {
        Ok(machines) => machines.iter().any(|machine| machine.machine == config.machine),
        Err(error @ ShareError::Store(_)) => return Err(explained(error)),
        Err(_) => false,
    };
    if is_there {
        return Ok(());
    }
    config.next = None;
    config.save(&ctx.lock()?, &ctx.paths)?;
    Err(explained(ShareError::Refused(Refused::Rotated)))
}

/// Moves everything under the new keys. Returns the machines that have only the old ones.
fn move_all(ctx: &Context, old: &mut Shared, new: &mut Shared, epoch: u32) -> Result<Vec<String>> {
    // What this machine knows the rotation by follows from the new keys, and tells nothing of them.
    let ticket = new.config().keys.shared().row(Kind::Lease, ROTATION).to_string();
    let revision = match old.member_or_error()?.begin_rotation(&ticket).map_err(explained)? {
        Rotating::Here(revision) => revision,
        Rotating::There(machine, held) => {
            return Err(Error::new(format!("{machine} is making new keys already")).hint(format!(
                "wait for it and join again; should it be lost, try again in {} minutes",
                held.as_secs() / 60 + 1
            )));
        }
    };
    // Rows with later keys are of this rotation, which was cut off: it has the lease.
    old.member_or_error()?.ignore_later_keys();
    let pulled = old.member_or_error()?.pull().map_err(explained)?;
    if let Some(error) = pulled.refused.first() {
        return Err(explained(error.clone()));
    }
    {
        let mut open = ctx.open()?;
        note_removed(&take_in(old, &open.lock, &mut open.pool, &pulled, open.now)?);
        open.pool.usage_mut().sharing_mut().tried(None, open.now);
        open.commit()?;
    }
    let machines = old.machines().map_err(explained)?;
    let tickets = old.tickets();
    let is_mine = |lease: &Lease| tickets.get(&lease.account) == Some(&lease.ticket);
    let open_marks = pulled.leases.iter().map(|view| (view.is_sent(), &view.lease));
    let mut marks: Vec<Lease> = open_marks
        .filter(|(is_sent, lease)| *is_sent || lease.state == LeaseState::Sent && is_mine(lease))
        .map(|(_, lease)| lease.clone())
        .collect();
    for (account, doc) in read_own_logins(ctx, old)? {
        // What is marked already is renewed by no machine.
        if account.kind == AccountKind::Chatgpt
            && !marks.iter().any(|mark| is_mine(mark) && mark.account == account.id.as_str())
        {
            marks.extend(retire(ctx, old, account, doc)?);
        }
    }
    let me = Machine::new(&old.config().machine, Role::Member, env::clock());
    let logins = read_own_logins(ctx, old)?;
    push(new, &logins)?;
    let share = new.member_or_error()?;
    share.enter(&me).map_err(explained)?;
    marks.iter().try_for_each(|mark| share.carry_mark(mark)).map_err(explained)?;
    pulled
        .removed
        .iter()
        .try_for_each(|(account, age)| share.carry_removal(account, *age))
        .map_err(explained)?;
    for user in machines.iter().filter_map(|machine| machine.user.as_deref()) {
        old.store().drop_reader(user).map_err(explained)?;
    }
    if old.member_or_error()?.hold_rotation(&ticket, revision).map_err(explained)?.is_none() {
        return Err(Error::new("another machine has begun to make new keys meanwhile").hint("join it again"));
    }
    old.store().remove_before(epoch).map_err(explained)?;
    let others = machines.into_iter().filter(|machine| machine.machine != old.config().machine);
    Ok(others.map(|machine| machine.machine).collect())
}

/// Marks an account under the old keys. Returns the mark of another machine, if that is in the way.
fn retire(ctx: &Context, old: &mut Shared, account: Account, mut doc: AuthDoc) -> Result<Option<Lease>> {
    let (begun, mut told) = (Instant::now(), false);
    loop {
        let login = crate::share::login(&account, &doc);
        let mine = old.tickets().get(account.id.as_str()).cloned();
        let answer =
            old.member_or_error()?.begin(&login, mine.as_deref(), clock::now()).map_err(explained)?;
        match answer {
            Begun::Leased(mut ticket) => {
                let id = ticket.id.clone();
                old.save(&ctx.lock()?, |state| drop(state.tickets.insert(account.id.to_string(), id)))?;
                if old.member_or_error()?.mark(&mut ticket).map_err(explained)? {
                    return Ok(None);
                }
            }
            Begun::Newer(theirs) => {
                let mut open = ctx.open()?;
                take_login(&open.lock, &mut open.pool, &theirs, open.now)?;
                open.commit()?;
                doc = crate::share::document(&theirs)?;
            }
            Begun::SentBy(machine) => {
                let leases = old.member_or_error()?.leases().map_err(explained)?;
                let mark = leases.into_iter().find(|view| view.lease.account == account.id.as_str());
                ui::warn(&format!(
                    "{machine} was renewing `{}` and has not said how that ended, so it is not renewed here; should \
                     that machine be lost: `codex-pool share take-over {}`",
                    account.label,
                    account.shell_ref()
                ));
                return Ok(mark.map(|view| view.lease));
            }
            // Its removal is carried over.
            Begun::Removed(age) => {
                let removed = account.id.to_string();
                old.save(&ctx.lock()?, |state| {
                    state.removals.insert(removed, age);
                })?;
                return Ok(None);
            }
            Begun::Busy(machine, held) => {
                if begun.elapsed() > PATIENCE {
                    let text =
                        format!("{machine} is renewing `{}`, for {} s more", account.label, held.as_secs());
                    return Err(
                        Error::new(text).hint("try again: `codex-pool share rotate` goes on with this")
                    );
                }
                if !std::mem::replace(&mut told, true) {
                    ui::note(&format!("waiting for {machine}, which is renewing `{}`", account.label));
                }
                std::thread::sleep(LOOK_AGAIN);
            }
        }
    }
}

/// Renews all accounts, whatever the age of their tokens. Returns of how many that failed.
fn renew(ctx: &Context) -> Result<usize> {
    let outcomes = Refresher::new(ctx)?.renew_all()?;
    let mut failed = 0;
    for (id, outcome) in outcomes {
        let why = match outcome {
            Outcome::Failed(why) => why,
            Outcome::NeedsLogin => "only a login helps".to_owned(),
            Outcome::Updated | Outcome::Recent(_) | Outcome::NotApplicable => continue,
        };
        failed += 1;
        ui::warn(&format!("`{}` was not renewed: {why}", ctx.open()?.label(&id)));
    }
    Ok(failed)
}
