//! The owner of the session that a command goes on with: the home that holds the thread, else the account that ran it
//! last, or created it. Where no thread says, the account of the last launch in this folder.

use std::path::{Path, PathBuf};

use super::{Launch, Locked};
use crate::account::AccountId;
use crate::codex::argv::Target;
use crate::codex::background_server::BackgroundServer;
use crate::codex::threads::{self, ThreadMeta};
use crate::homes::{CodexHome, in_use};
use crate::store::path_key;
use crate::thread_record::ThreadRecord;

/// The owner of the session that a command goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// The command begins a session.
    None,
    /// A running Codex in this home holds the thread and answers as this account. No other Codex can open it.
    Holder(CodexHome, Option<AccountId>),
    /// This account created it or, where the session is not named, made the last launch in this folder.
    Account(AccountId),
    /// The session does not say. This account had made the last launch in its folder when it began, or has since.
    Perhaps(AccountId),
    /// An account that is not in the pool created it.
    NotInPool,
    /// Its log does not say.
    Unknown,
    /// Its log cannot be found.
    NotFound,
}

impl Launch<'_> {
    /// Returns the owner of the session that this command goes on with.
    pub(super) fn owner(&self, locked: &Locked<'_>) -> Owner {
        let thread = match self.call.target {
            Target::None => return Owner::None,
            // The list begins with the last session. 0.169 shows only the account's own.
            Target::Picked => return self.last_here(locked),
            Target::Last => {
                let Some(thread) = self.last_thread(locked) else { return self.last_here(locked) };
                return holder(locked, &thread.id).unwrap_or_else(|| match creator(locked, &thread) {
                    owner @ Owner::Account(_) => owner,
                    _ => self.last_here(locked),
                });
            }
            Target::Thread(id) => {
                if let Some(holder) = holder(locked, id) {
                    return holder;
                }
                threads::find(locked.main_home.dir(), self.call.target)
            }
            Target::Name(_) => {
                let thread = threads::find(locked.main_home.dir(), self.call.target);
                if let Some(holder) = thread.as_ref().and_then(|t| holder(locked, &t.id)) {
                    return holder;
                }
                thread
            }
        };
        thread.map_or(Owner::NotFound, |thread| creator(locked, &thread))
    }

    /// Returns the account of the last launch in the folder.
    fn last_here(&self, locked: &Locked<'_>) -> Owner {
        let account = self.folder().and_then(|f| last_in(locked, &f, self.call.is_interactive()));
        account.map_or(Owner::None, Owner::Account)
    }

    /// Returns the thread that `--last` means.
    pub(super) fn last_thread(&self, locked: &Locked<'_>) -> Option<ThreadMeta> {
        threads::newest_in(locked.main_home.dir(), &self.folder()?, self.call.is_interactive())
    }

    /// Returns the folder that Codex will work in.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        let cwd = self.env().cwd.clone()?;
        Some(match self.call.cd {
            Some(dir) => std::fs::canonicalize(cwd.join(dir)).unwrap_or_else(|_| cwd.join(dir)),
            None => cwd,
        })
    }

    /// Remembers the account of the last launch in this folder.
    pub(super) fn remember_folder(&self, locked: &mut Locked<'_>, account: &AccountId) {
        if let Some(folder) = self.folder() {
            let now_ms = self.env().now_ms;
            let interactive = self.is_codex && self.call.is_interactive();
            locked.pool.remember_folder(&path_key(&folder), account, interactive, now_ms);
        }
    }
}

/// Returns the account that ran the thread last, as far as the pool knows, else the one that created it, as its log says.
/// Logs of older versions do not: then the launches in its folder decide.
pub(super) fn creator(locked: &Locked<'_>, thread: &ThreadMeta) -> Owner {
    if let Some(record) = ThreadRecord::find(&locked.pool.paths, &thread.id)
        && let Some(account) = known(locked, &record.account)
    {
        return Owner::Account(account);
    }
    let (Some(user), Some(account)) = (&thread.creator_user_id, &thread.creator_account_id) else {
        let began_at = threads::began_at(&thread.id).unwrap_or(0);
        let folder = locked.pool.state().folders.get(&path_key(&thread.cwd));
        let then = folder.and_then(|folder| known(locked, folder.account_at(began_at)?));
        return then.or_else(|| last_in(locked, &thread.cwd, false)).map_or(Owner::Unknown, Owner::Perhaps);
    };
    let id = AccountId::of_chatgpt(user, account);
    if locked.pool.registry().get(&id).is_some() { Owner::Account(id) } else { Owner::NotInPool }
}

/// Returns the account of the last launch in a folder. `interactive`: of the last interface, if there was one.
fn last_in(locked: &Locked<'_>, folder: &Path, interactive: bool) -> Option<AccountId> {
    let folder = locked.pool.state().folders.get(&path_key(folder))?;
    let interface = folder.interface.as_ref().filter(|_| interactive).and_then(|id| known(locked, id));
    interface.or_else(|| known(locked, &folder.account))
}

/// Returns the account if it is in the pool.
fn known(locked: &Locked<'_>, id: &AccountId) -> Option<AccountId> {
    locked.pool.registry().get(id).map(|account| account.id.clone())
}

/// Returns the home of the process that has the thread open for writing.
fn holder(locked: &Locked<'_>, thread: &str) -> Option<Owner> {
    let pid = threads::writer(locked.main_home.dir(), thread)?;
    let home = in_use::home_of(&locked.pool.paths, locked.main_home, pid);
    let record = locked.pool.state().home(&home.auth_json());
    let account = match BackgroundServer::of_home(home.dir()).filter(|server| server.pid == pid) {
        Some(server) => record.and_then(|record| in_use::account_of_server(record, &server)),
        None => record.map(|record| record.account.clone()),
    };
    Some(Owner::Holder(home, account))
}
