//! `init`: sets everything up, and repairs it when it is run again. Stopping between two steps does no harm.

mod shell;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use codex_pool_core::codex::configuration::CredentialsStore;
use codex_pool_core::codex::{find, probe};
use codex_pool_core::files;
use codex_pool_core::folders::has_any;
use codex_pool_core::homes::HomeContent;
use codex_pool_core::shared::Role;
use codex_pool_core::{Error, Result};

use super::{add, import, set};
use crate::cli::{InitArgs, LoginArgs};
use crate::context::Context;
use crate::programs::{self, VERSION};
use crate::{signals, ui, view};

pub(crate) fn run(ctx: &Context, args: &InitArgs) -> Result<()> {
    let answers = match (args.yes, ui::interactive()) {
        (true, _) => Answers::Default,
        (false, true) => Answers::FromUser,
        (false, false) => Answers::None,
    };
    all(ctx, answers).map_err(|error| match error.hint {
        Some(_) => error,
        None => error.hint("what was done so far stays; `codex-pool init` continues"),
    })
}

fn all(ctx: &Context, answers: Answers) -> Result<()> {
    check_folder(ctx)?;
    let has_codex = codex(ctx);
    let placed = place_programs(ctx)?;
    if placed {
        shell::put_on_path(ctx, answers)?;
    }
    live(ctx)?;
    codex_tools(ctx, answers)?;
    if has_codex {
        more_accounts(ctx, answers)?;
        folders(ctx, answers)?;
        closing(ctx)?;
    } else {
        // A login needs Codex.
        ui::line("Install Codex with `npm install -g @openai/codex`, then `codex-pool init` goes on.");
    }
    if placed {
        Ok(())
    } else {
        Err(Error::new("the shim is not in place, so `codex` does not use the pool")
            .hint("install codex-pool with install.sh, then `codex-pool init` again"))
    }
}

/// Checks that the pool has a folder of its own, because that is closed to other users, and its files are removed one
/// day.
///
/// # Errors
/// It is the home folder, the current folder, Codex's, or a folder above one of them.
fn check_folder(ctx: &Context) -> Result<()> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let root = ctx.paths.root();
    let Some(pool) = identity(root) else { return Ok(()) };
    let places = [ctx.env.home(), ctx.env.cwd.as_deref(), Some(ctx.main_home.dir())];
    let mut places = places.into_iter().flatten().filter_map(|place| place.canonicalize().ok());
    if places.any(|place| place.ancestors().any(|folder| identity(folder) == Some(pool))) {
        return Err(Error::new(format!(
            "{} is the home folder, the current folder, Codex's own, or a folder above one of them",
            root.display()
        ))
        .hint("name a folder for the pool alone in CODEX_POOL_HOME"));
    }
    Ok(())
}

/// Where answers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    /// From the user, at a terminal.
    FromUser,
    /// The defaults (`--yes`).
    Default,
    /// There is no terminal. What needs an answer is skipped, with a note.
    None,
}

impl Answers {
    /// Asks whether to do something. `skipped`: what is skipped without a terminal, and how to do it later.
    fn agree(self, question: &str, default: bool, skipped: &str) -> Result<bool> {
        match self {
            Answers::FromUser => ui::agree(question, default),
            Answers::Default => Ok(default),
            Answers::None => {
                ui::note(&format!("skipped without a terminal: {skipped}"));
                Ok(false)
            }
        }
    }
}

/// Shows the Codex that will run. Returns whether there is one.
fn codex(ctx: &Context) -> bool {
    match find::find(&ctx.env, &ctx.settings, None) {
        Ok(path) => {
            let version = probe::version(&path).unwrap_or_else(|| "of unknown version".to_owned());
            ui::line(&format!("Codex {version}: {}", path.display()));
            true
        }
        Err(error) => {
            ui::warn(&Error::from(error).message);
            false
        }
    }
}

/// Puts the shim and the link to this command into the pool. Returns whether the shim is there.
fn place_programs(ctx: &Context) -> Result<bool> {
    let lock = ctx.lock()?;
    let _signals = signals::hold();
    files::make_private(ctx.paths.root())
        .map_err(|e| Error::io("change the mode of", ctx.paths.root(), &e))?;
    let shim = ctx.paths.shim();
    let there = shim.symlink_metadata().is_ok();
    let placed = if there && !find::is_shim(&shim) {
        ui::warn(&format!("{} is not codex-pool's shim, so it stays; move it away", shim.display()));
        false
    } else {
        let version = programs::version_of_shim(&shim);
        match programs::shim_source() {
            _ if version.as_deref() == Some(VERSION) => {
                ui::line(&format!("The shim is in place: {}", shim.display()));
                true
            }
            Some(source) => {
                programs::put_shim(&lock, &ctx.paths, &source)?;
                ui::done(&format!(
                    "{} the shim: {}",
                    if there { "Updated" } else { "Installed" },
                    shim.display()
                ));
                true
            }
            None if there => {
                let version = version.unwrap_or_else(|| "unknown".to_owned());
                ui::warn(&format!(
                    "the shim {} is of version {version}, codex-pool of {VERSION}; install.sh brings both up to date",
                    shim.display()
                ));
                true
            }
            None => {
                ui::warn("there is no shim beside codex-pool to put in place");
                false
            }
        }
    };
    if let Some(own) = programs::own_file()
        && ctx.paths.admin_link().canonicalize().ok().as_ref() != Some(&own)
        && let Err(error) = programs::link_admin(&lock, &ctx.paths, &own)
    {
        ui::warn(&format!("{error}; launches cannot refresh usage and tokens"));
    }
    Ok(placed)
}

/// Shows the live login. Opening the pool adopts it, also where another program left it, and migrates a registry of
/// version 1.
fn live(ctx: &Context) -> Result<()> {
    let open = ctx.open_to_manage()?;
    let dir = ctx.main_home.dir().display();
    match &open.in_main_home {
        HomeContent::Account { id, .. } => ui::line(&format!("Live in {dir}: `{}`", open.label(id))),
        HomeContent::Empty => ui::line(&format!("There is no login in {dir} yet")),
        HomeContent::Unmanaged(kind) => {
            ui::warn(&format!(
                "{dir} holds {kind}, which codex-pool leaves alone; `codex` continues to use it"
            ));
        }
        HomeContent::Foreign => ui::warn(&format!("{dir} has a login that is not the pool's")),
        HomeContent::BeingWritten | HomeContent::Broken => {
            ui::warn(&format!("auth.json in {dir} is not whole; `codex-pool doctor` says more"))
        }
        HomeContent::Unreadable(why) => ui::warn(&format!("auth.json in {dir} cannot be read: {why}")),
    }
    let store = ctx.codex.cli_auth_credentials_store;
    if let Some(store @ (CredentialsStore::Keyring | CredentialsStore::Auto)) = store {
        let store = store.as_str();
        ui::note(&format!(
            "Codex keeps its login in the key ring (cli_auth_credentials_store = \"{store}\"), where codex-pool \
             cannot see it; `codex-pool add` logs in once more, into the pool"
        ));
    }
    Ok(())
}

/// Offers to import the accounts of codex-tools that the pool does not have.
fn codex_tools(ctx: &Context, answers: Answers) -> Result<()> {
    let Ok(store) = import::tool_store(ctx) else { return Ok(()) };
    if !store.exists() {
        return Ok(());
    }
    let open = ctx.open()?;
    if open.pool.shared() == Some(Role::Runner) {
        return Ok(());
    }
    let mut batch = import::read(&store);
    batch.retain(|document| document.doc().is_some_and(|doc| open.pool.registry().get(doc.id()).is_none()));
    drop(open);
    let accounts = match batch.len() {
        0 => return Ok(()),
        1 => "one account".to_owned(),
        several => format!("{several} accounts"),
    };
    let question = format!("codex-tools has {accounts} that the pool does not have. Import?");
    let skipped = format!("importing {accounts} from codex-tools (`codex-pool import codex-tools`)");
    if answers.agree(&question, true, &skipped)? {
        import::import_all(ctx, &batch, import::Names::default())?;
    }
    Ok(())
}

/// Offers logins until the user has enough.
fn more_accounts(ctx: &Context, answers: Answers) -> Result<()> {
    const NO: &str = "no, that is all";
    const BROWSER: &str = "yes, with the browser here";
    const CODE: &str = "yes, with a code, in a browser elsewhere";
    loop {
        let open = ctx.open()?;
        if open.pool.shared() == Some(Role::Runner) {
            return Ok(());
        }
        let count = open.pool.registry().accounts.len();
        drop(open);
        if answers != Answers::FromUser {
            let what = if count == 0 { "logging in" } else { "logging in to more accounts" };
            let why = if answers == Answers::None { " without a terminal" } else { "" };
            ui::note(&format!("skipped{why}: {what} (`codex-pool add`)"));
            return Ok(());
        }
        let question = match count {
            0 => "The pool has no account yet. Log in to one?".to_owned(),
            1 => "The pool has one account. Log in to another?".to_owned(),
            several => format!("The pool has {several} accounts. Log in to another?"),
        };
        // The first answer is what Enter means.
        let choices = if count == 0 { [BROWSER, CODE, NO] } else { [NO, BROWSER, CODE] };
        let device_auth = match ui::choose(&question, &choices)?.map(|at| choices[at]) {
            None | Some(NO) => return Ok(()),
            Some(answer) => answer == CODE,
        };
        let args = LoginArgs { device_auth, with_api_key: false, login_args: Vec::new() };
        if let Err(error) = add::add(ctx, &args, None, false) {
            // A login that was cancelled can be tried again.
            ui::error(&error);
        }
    }
}

/// Offers to bind accounts to folders, where there are several and none is bound.
fn folders(ctx: &Context, answers: Answers) -> Result<()> {
    loop {
        let accounts = ctx.open()?.pool.registry().accounts.clone();
        if accounts.len() < 2 {
            return Ok(());
        }
        let first = !has_any(&accounts);
        if answers != Answers::FromUser {
            if first {
                ui::note("an account for certain folders only: `codex-pool set <account> --folder <folder>`");
            }
            return Ok(());
        }
        let question = match first {
            true => "Is one of them for certain folders only, such as work and private on one machine?",
            false => "Is another one for certain folders only?",
        };
        let mut choices = vec!["no".to_owned()];
        choices.extend(accounts.iter().map(|account| format!("yes, {}", ui::printable(&account.label))));
        let choices: Vec<&str> = choices.iter().map(String::as_str).collect();
        let Some(account) = ui::choose(question, &choices)?.and_then(|at| accounts.get(at.checked_sub(1)?))
        else {
            return Ok(());
        };
        let question =
            format!("Which folder is {} for? Several are set with `codex-pool set`", account.label);
        let Some(typed) = ui::text(&question)?.filter(|typed| !typed.trim().is_empty()) else { continue };
        if let Err(error) = set::add_folder(ctx, &account.id, typed.trim()) {
            ui::error(&error);
        }
    }
}

fn closing(ctx: &Context) -> Result<()> {
    ui::line("");
    ui::line("`codex` works as before, on the account that has the most room. Worth knowing:");
    for (command, what) in [
        ("codex-pool list --refresh", "who has how much left"),
        ("codex-pool add", "log in to one more account"),
        ("codex-pool use <account>", "stay on one; `use --auto` lets the pool pick again"),
        ("codex-pool why", "which account comes next, and why"),
        ("codex-pool doctor", "check everything"),
    ] {
        ui::line(&format!("  {command:<27}{what}"));
    }
    let views = view::accounts(ctx, &ctx.open()?);
    ui::line("");
    ui::table::accounts(&views, ctx.env.now, false);
    Ok(())
}
