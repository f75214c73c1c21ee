//! `share code`: prints a code with which a machine joins.

use codex_pool_core::{Error, ErrorKind, Result, env};
use codex_pool_share::address::with_user;
use codex_pool_share::code::{Code, Keys, Role};
use codex_pool_share::machines::Machine;
use codex_pool_share::roles::{CodeState, Reader};
use codex_pool_share::store::{Refusal, StoreError};

use super::{current_member, explained, name_of_machine};
use crate::cli::ShareCodeArgs;
use crate::context::Context;
use crate::share::{Shared, connect};
use crate::ui;

pub(super) fn run(ctx: &Context, args: &ShareCodeArgs) -> Result<()> {
    let (mut shared, machines) = current_member(ctx)?;
    clear_unused(&mut shared, &machines)?;
    let code = match args.runner {
        false => {
            let (code, bundle) = Code::new(&shared.config().url, &shared.config().keys);
            shared.store().add_code(&code, &bundle).map_err(explained)?;
            code
        }
        true => for_runner(&mut shared, args, &machines)?,
    };
    ui::raw(format!("{}\n", &*code.to_text()).as_bytes());
    let who = match code.role {
        Role::Member => "as a member; who has the code has all accounts",
        Role::Runner => "as a runner; who has the code can use all accounts until their access tokens end",
    };
    ui::note(&format!(
        "one machine joins with it, within 15 minutes, {who}: `codex-pool share join` there reads it"
    ));
    Ok(())
}

/// Makes a code for a runner, with a user of the database of its own.
fn for_runner(shared: &mut Shared, args: &ShareCodeArgs, machines: &[Machine]) -> Result<Code> {
    let keys = Keys::Runner(Box::new(shared.config().keys.shared().clone()));
    let name = match &args.name {
        Some(name) => name_of_machine(Some(name))?,
        None => (1..).map(|n| format!("runner-{n}")).find(|name| !has(machines, name)).unwrap_or_default(),
    };
    if has(machines, &name) {
        return Err(Error::new(format!("there is a machine `{name}` already"))
            .hint("name another one, or `codex-pool share shut-out` it first"));
    }
    let (url, user) = match &args.url {
        Some(url) => {
            let mut store = connect(url, shared.config().keys.shared())?;
            store.check_schema().map_err(explained)?;
            if store.can_write().map_err(explained)? {
                return Err(Error::of(ErrorKind::Usage, "that user can change the records")
                    .hint("a runner gets a user that can only read: see docs/share.md"));
            }
            (url.clone(), None)
        }
        None => {
            let reader = Reader::random();
            shared.store().add_reader(&reader).map_err(|error| match error {
                StoreError::Refused(Refusal::Rights, why) => {
                    Error::new(format!("the database lets this user make no user for a runner: {why}"))
                        .hint("make one that can only read (docs/share.md has the SQL), and give its address with `--url`")
                }
                error => explained(error),
            })?;
            let url = with_user(&shared.config().url, &reader.name, &reader.password);
            (url, Some(reader.name))
        }
    };
    let (code, bundle) = Code::new(&url, &keys);
    let id = code.id.iter().map(|byte| format!("{byte:02x}")).collect();
    let machine = Machine { user, code: Some(id), ..Machine::new(&name, Role::Runner, env::clock()) };
    let entered = shared.member().map(|share| share.enter(&machine)).transpose().map_err(explained)?;
    if entered != Some(true) {
        return Err(
            Error::new(format!("another member has just let in a machine `{name}`")).hint("try again")
        );
    }
    shared.store().add_code(&code, &bundle).map_err(explained)?;
    Ok(code)
}

fn has(machines: &[Machine], name: &str) -> bool {
    machines.iter().any(|machine| machine.machine == name)
}

/// Takes back what was made for runners that never came.
fn clear_unused(shared: &mut Shared, machines: &[Machine]) -> Result<()> {
    for machine in machines {
        let Some(code) = machine.code.as_deref().and_then(bytes) else { continue };
        if shared.store().code_state(&code).map_err(explained)? == CodeState::Ended {
            shared.shut_out(machine).map_err(explained)?;
        }
    }
    Ok(())
}

/// Returns the bytes of a hexadecimal text.
pub(super) fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
