//! Sessions go home: a thread is continued by the home that holds it, else by the account that
//! created it; `--last` by the account of the last launch in this folder.

use std::path::{Path, PathBuf};

use super::{Launch, Locked};
use crate::account::AccountId;
use crate::codex::argv::Target;
use crate::codex::background_server::BackgroundServer;
use crate::codex::threads::{self, ThreadMeta};
use crate::homes::{self, CodexHome, in_use};
use crate::store::path_key;

/// Whose the session is that a command goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// The command begins a session.
    None,
    /// A running Codex in this home, which answers as this account, holds the thread: nobody else can open it.
    Holder(CodexHome, Option<AccountId>),
    /// This account made it, or (`--last`, or if it is yet to be picked) made the last launch in this folder.
    Account(AccountId),
    /// The session does not say; this account had launched last in its folder when it began, or since.
    Perhaps(AccountId),
    /// Somebody who is not in the pool made it.
    Stranger,
    /// Nobody knows: its log is not to be found, or does not say.
    Unknown,
}

impl Launch<'_> {
    /// The owner of the session that this command goes on with.
    pub(super) fn owner(&self, held: &Locked<'_>) -> Owner {
        let thread = match self.call.target {
            Target::None => return Owner::None,
            // The list begins with it; 0.169 shows only the account's own.
            Target::Picked | Target::Last => {
                let account = self.folder().and_then(|f| last_in(held, &f, self.call.is_interactive()));
                return account.map_or(Owner::None, Owner::Account);
            }
            Target::Thread(id) => {
                if let Some(holder) = holder(held, id) {
                    return holder;
                }
                threads::find(held.main_home.dir(), self.call.target)
            }
            Target::Name(_) => {
                let thread = threads::find(held.main_home.dir(), self.call.target);
                if let Some(holder) = thread.as_ref().and_then(|t| holder(held, &t.id)) {
                    return holder;
                }
                thread
            }
        };
        thread.map_or(Owner::Unknown, |thread| creator(held, &thread))
    }

    /// The folder that Codex will work in.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        let cwd = self.env().cwd.clone()?;
        Some(match self.call.cd {
            Some(dir) => std::fs::canonicalize(cwd.join(dir)).unwrap_or_else(|_| cwd.join(dir)),
            None => cwd,
        })
    }

    /// Remembers who launched in this folder.
    pub(super) fn remember_folder(&self, held: &mut Locked<'_>, account: &AccountId) {
        if let Some(folder) = self.folder() {
            let now_ms = self.env().now_ms;
            let interactive = self.is_codex && self.call.is_interactive();
            held.pool.remember_folder(&path_key(&folder), account, interactive, now_ms);
        }
    }
}

/// Who made the thread: by its own word, else (older Codex) by the launches in its folder.
fn creator(held: &Locked<'_>, thread: &ThreadMeta) -> Owner {
    let (Some(user), Some(account)) = (&thread.creator_user_id, &thread.creator_account_id) else {
        let began_at = threads::began_at(&thread.id).unwrap_or(0);
        let folder = held.pool.state().folders.get(&path_key(&thread.cwd));
        let then = folder.and_then(|folder| known(held, folder.account_at(began_at)?));
        return then.or_else(|| last_in(held, &thread.cwd, false)).map_or(Owner::Unknown, Owner::Perhaps);
    };
    let id = AccountId::of_chatgpt(user, account);
    if held.pool.standings().get(&id).is_some() { Owner::Account(id) } else { Owner::Stranger }
}

/// Who launched last in a folder; for an interface, who launched one, if anybody did.
fn last_in(held: &Locked<'_>, folder: &Path, interactive: bool) -> Option<AccountId> {
    let folder = held.pool.state().folders.get(&path_key(folder))?;
    let interface = folder.interface.as_ref().filter(|_| interactive).and_then(|id| known(held, id));
    interface.or_else(|| known(held, &folder.account))
}

/// The account, if it is in the pool.
fn known(held: &Locked<'_>, id: &AccountId) -> Option<AccountId> {
    held.pool.standings().get(id).map(|standing| standing.id.clone())
}

/// The home of whoever has the thread open for writing.
fn holder(held: &Locked<'_>, thread: &str) -> Option<Owner> {
    let pid = threads::writer(held.main_home.dir(), thread)?;
    let home = in_use::home_of(&held.pool.paths, held.main_home, pid);
    let memory = held.pool.state().home(&home.auth_json());
    let account = match BackgroundServer::of_home(home.dir()).filter(|server| server.pid == pid) {
        // It answers as whom it read when it started.
        Some(server) => memory.and_then(|memory| homes::server_account(memory, &server)),
        None => memory.map(|memory| memory.account.clone()),
    };
    Some(Owner::Holder(home, account))
}
