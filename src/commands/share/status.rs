//! `share status`: what this machine is in the shared pool, which machines there are, and what waits for a person.

use codex_pool_core::account::AccountId;
use codex_pool_core::pool::Pool;
use codex_pool_core::time::human_duration;
use codex_pool_core::{Result, env};
use codex_pool_share::machines::Machine;
use codex_pool_share::pull::LeaseView;
use codex_pool_share::roles::CodeState;
use serde_json::json;

use super::code::bytes;
use super::{count, cut_off, explained, shared};
use crate::cli::ShareStatusArgs;
use crate::context::Context;
use crate::share::{Config, Shared};
use crate::ui;
use crate::view::Clock;

/// What the database says.
struct Answer {
    /// The machines, each with whether it still waits to join.
    machines: Vec<(Machine, bool)>,
    leases: Vec<LeaseView>,
}

pub(super) fn run(ctx: &Context, args: &ShareStatusArgs) -> Result<()> {
    if args.json && Config::load(&ctx.paths)?.is_none() {
        ui::json(&json!({
            "schema": 1, "role": null, "machine": null, "database": null, "epoch": null, "rotating": null,
            "accounts": null, "synced_at": null, "machines": null, "sent": null, "problem": null,
        }));
        return Ok(());
    }
    let mut shared = shared(ctx)?;
    let pool = Pool::peek(&ctx.paths)?;
    let registry = pool.registry();
    let synced_at = pool.usage().sharing.as_ref().and_then(|sharing| sharing.synced_at);
    let answer = ask(&mut shared).map_err(|error| match shared.config().next {
        // What it cannot read may be its own.
        Some(_) => cut_off(),
        None => error,
    });
    let config = shared.config().clone();
    let (database, rotating) = (shared.store().address().to_string(), config.next.is_some());
    if args.json {
        let found = answer.as_ref().ok();
        let machine = |(machine, waits): &(Machine, bool)| {
            json!({
                "machine": machine.machine,
                "role": machine.role,
                "since": machine.since,
                "joined": !waits,
                "this": machine.machine == config.machine,
            })
        };
        let mark = |view: &LeaseView| json!({"account": view.lease.account, "machine": view.lease.machine});
        ui::json(&json!({
            "schema": 1,
            "role": config.role().as_str(),
            "machine": config.machine,
            "database": database,
            "epoch": config.keys.shared().epoch,
            "rotating": rotating,
            "accounts": registry.accounts.len(),
            "synced_at": synced_at,
            "machines": found.map(|found| found.machines.iter().map(machine).collect::<Vec<_>>()),
            "sent": found.map(|found| sent(found).map(mark).collect::<Vec<_>>()),
            "problem": answer.as_ref().err().map(|error| &error.message),
        }));
        return answer.map(drop);
    }
    let epoch = config.keys.shared().epoch;
    ui::line(&format!(
        "{} `{}` of the pool at {database}: {}, keys of epoch {epoch}",
        config.role().as_str(),
        config.machine,
        count(registry.accounts.len(), "account")
    ));
    let now = env::clock();
    ui::line(&match synced_at {
        Some(at) => format!("in step with it {} ago", human_duration(now - at)),
        None => "never in step with it yet: `codex-pool refresh`".to_owned(),
    });
    if rotating {
        return Err(cut_off());
    }
    let answer = answer?;
    let clock = Clock::of_system();
    let width = answer.machines.iter().map(|(machine, _)| machine.machine.chars().count()).max().unwrap_or(0);
    for (machine, waits) in &answer.machines {
        let joined = if *waits { "let in, not here yet," } else { "since" };
        let this = if machine.machine == config.machine { "   this machine" } else { "" };
        ui::line(&format!(
            "  {:width$}   {}   {joined} {}{this}",
            machine.machine,
            machine.role,
            clock.time(machine.since, now)
        ));
    }
    for view in sent(&answer) {
        let account = AccountId::parse(&view.lease.account).and_then(|id| registry.get(&id).cloned());
        let id = view.lease.account.as_str();
        let (label, reference) =
            account.as_ref().map_or((id, id), |account| (account.label.as_str(), account.shell_ref()));
        ui::line(&format!(
            "`{label}`: {} was renewing it and has not said how that ended; should that machine be lost, `codex-pool \
             share take-over {reference}`",
            view.lease.machine
        ));
    }
    Ok(())
}

/// The leases of renewals whose end is not known.
fn sent(answer: &Answer) -> impl Iterator<Item = &LeaseView> {
    answer.leases.iter().filter(|view| view.is_sent())
}

fn ask(shared: &mut Shared) -> Result<Answer> {
    shared.store().check_schema().map_err(explained)?;
    let machines = shared.machines().map_err(explained)?;
    let mut found = Vec::new();
    for machine in machines {
        let waits = match machine.code.as_deref().and_then(bytes) {
            Some(code) => shared.store().code_state(&code).map_err(explained)? != CodeState::Gone,
            None => machine.joining,
        };
        found.push((machine, waits));
    }
    let leases = shared.member().map(|share| share.leases()).transpose().map_err(explained)?;
    Ok(Answer { machines: found, leases: leases.unwrap_or_default() })
}
