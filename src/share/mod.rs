//! A pool on several machines, as this machine sees it: its keys and the database's address (`share.toml`), what it has
//! seen in the database (`share.json`), and the connection. The crate `codex-pool-share` has records and protocol. Here
//! is what it takes to use them on the pool of this machine.
//!
//! ```text
//! let Some(mut shared) = Shared::open(&ctx.paths)? else { return … };   // reads two files; `None`: not shared
//! let pulled = shared.pull().map_err(|e| explain(&e))?;                 // connects; each call is limited to 10 s
//! if let Some(share) = shared.member() { share.push(&login(account, &doc))?; share.begin(…)?; … }
//! … lock the pool, adopt what was pulled …
//! shared.save(&lock, |state| state.removals = …)?;                      // only now: what was seen is in the pool
//! ```
//!
//! Nothing here may be called while the pool's lock is held, but [`Shared::open`] and [`Shared::save`]. What was pulled
//! must be in the pool before it is saved as seen, since it is not pulled again. A runner can pull, and nothing else.

mod config;
mod state;

use std::collections::BTreeMap;

use codex_pool_core::account::Account;
use codex_pool_core::auth_doc::AuthDoc;
use codex_pool_core::files::PoolLock;
use codex_pool_core::paths::PoolPaths;
use codex_pool_core::{Error, ErrorKind, Result};
use codex_pool_share::Seen;
use codex_pool_share::address::{Address, BadAddress};
use codex_pool_share::code::Keys;
use codex_pool_share::keys::{PoolId, RunnerKeys};
use codex_pool_share::login::{Age, Login};
use codex_pool_share::machines::{Machine, machines_for_runner};
use codex_pool_share::postgres::Postgres;
use codex_pool_share::protocol::{Share, ShareError};
use codex_pool_share::pull::{Pulled, pull_for_runner};
use codex_pool_share::record::Refused;
use codex_pool_share::store::{Refusal, StoreError};
use zeroize::Zeroizing;

pub(crate) use config::Config;
pub(crate) use state::{ShareState, Told};

/// A shared pool.
pub(crate) struct Shared {
    config: Config,
    paths: PoolPaths,
    connection: Connection,
    /// Whether it was never in step.
    is_new: bool,
}

/// The connection to the database, made at the first call.
enum Connection {
    Member(Box<Share<Postgres>>),
    Runner { keys: Box<RunnerKeys>, store: Box<Postgres>, seen: Seen },
}

impl Shared {
    /// Reads what this machine has of a shared pool. `None`: the pool is not shared.
    ///
    /// # Errors
    /// A file of it cannot be used.
    pub(crate) fn open(paths: &PoolPaths) -> Result<Option<Shared>> {
        let Some(config) = Config::load(paths)? else { return Ok(None) };
        Shared::of(config, paths).map(Some)
    }

    /// Returns the shared pool of these keys and this address.
    ///
    /// # Errors
    /// The address cannot be used, or this machine cannot make connections.
    pub(crate) fn of(config: Config, paths: &PoolPaths) -> Result<Shared> {
        let shared = config.keys.shared();
        let store = connect(&config.url, shared)?;
        let seen = ShareState::load(paths, shared.pool, shared.epoch).seen;
        let is_new = seen == Seen::default();
        let connection = match &config.keys {
            Keys::Member(keys) => {
                Connection::Member(Box::new(Share::new((**keys).clone(), &config.machine, store, seen)))
            }
            Keys::Runner(keys) => Connection::Runner { keys: keys.clone(), store: Box::new(store), seen },
        };
        Ok(Shared { config, paths: paths.clone(), connection, is_new })
    }

    /// Returns keys, address and name of this machine.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the pool as a member may use it; `None` on a runner.
    pub(crate) fn member(&mut self) -> Option<&mut Share<Postgres>> {
        match &mut self.connection {
            Connection::Member(share) => Some(share),
            Connection::Runner { .. } => None,
        }
    }

    /// As [`Shared::member`], for what only members do.
    ///
    /// # Errors
    /// This machine is a runner.
    pub(crate) fn member_or_error(&mut self) -> Result<&mut Share<Postgres>> {
        self.member().ok_or_else(|| {
            Error::new("this machine is a runner, which only runs Codex").hint("do it on a member")
        })
    }

    /// Returns the machines of the pool.
    ///
    /// # Errors
    /// The database cannot be asked, or a machine's record is not believed.
    pub(crate) fn machines(&mut self) -> Result<Vec<Machine>, ShareError> {
        match &mut self.connection {
            Connection::Member(share) => share.machines(),
            Connection::Runner { keys, store, seen } => machines_for_runner(keys, &mut **store, seen),
        }
    }

    /// Takes a runner's way into the database away, and its record off the list. Only a member can.
    ///
    /// # Errors
    /// The database cannot be asked, or does not let this machine's user do that.
    pub(crate) fn shut_out(&mut self, machine: &Machine) -> Result<(), ShareError> {
        if let Some(user) = &machine.user {
            self.store().drop_reader(user)?;
        }
        self.member().map_or(Ok(()), |share| share.depart(&machine.machine))
    }

    /// Returns what this machine keeps beside the pool.
    pub(crate) fn state(&self) -> ShareState {
        let keys = self.config.keys.shared();
        ShareState::load(&self.paths, keys.pool, keys.epoch)
    }

    /// Returns the renewals of this machine whose end is not known: the ticket for each account's id.
    pub(crate) fn tickets(&self) -> BTreeMap<String, String> {
        self.state().tickets
    }

    /// Returns the database.
    pub(crate) fn store(&mut self) -> &mut Postgres {
        match &mut self.connection {
            Connection::Member(share) => &mut share.store,
            Connection::Runner { store, .. } => store,
        }
    }

    /// Reads what this machine has not seen yet. Without a change, that is one question with a short answer.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub(crate) fn pull(&mut self) -> Result<Pulled, ShareError> {
        match &mut self.connection {
            Connection::Member(share) => {
                let is_listed = !self.is_new || share.arrive()?;
                let pulled = share.pull_changes()?;
                if !is_listed && pulled.refused.is_empty() {
                    return Err(ShareError::Gone);
                }
                self.is_new = false;
                Ok(pulled)
            }
            Connection::Runner { keys, store, seen } => pull_for_runner(keys, &mut **store, seen),
        }
    }

    /// Keeps what was seen, and what `note` adds. What was pulled must be in the pool already.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn save(&self, lock: &PoolLock, note: impl FnOnce(&mut ShareState)) -> Result<()> {
        let mut state = self.state();
        state.seen.merge(match &self.connection {
            Connection::Member(share) => share.seen.clone(),
            Connection::Runner { seen, .. } => seen.clone(),
        });
        note(&mut state);
        state.save(lock, &self.paths)
    }
}

/// Returns a connection to the pool of these keys that is not made yet.
///
/// # Errors
/// The address cannot be used, or this machine cannot make connections.
pub(crate) fn connect(url: &str, keys: &RunnerKeys) -> Result<Postgres> {
    connect_to(url, keys.pool)
}

/// Returns a connection for the time before a pool is known, when there is only a code.
///
/// # Errors
/// As [`connect`].
pub(crate) fn connect_anew(url: &str) -> Result<Postgres> {
    connect_to(url, PoolId([0; 16]))
}

fn connect_to(url: &str, pool: PoolId) -> Result<Postgres> {
    let address = Address::parse(url).map_err(|e| {
        let next = match e {
            BadAddress::Plain(_) => "a database on another machine is spoken to through TLS alone; docs/share.md says more",
            _ => "docs/share.md shows what an address looks like; a sign such as @ in a password is written as %40",
        };
        Error::of(ErrorKind::Usage, e.to_string()).hint(next)
    })?;
    Postgres::new(address, pool).map_err(|e| explain(&e.into()))
}

/// Returns a login of the pool in the form in which it is shared.
pub(crate) fn login(account: &Account, doc: &AuthDoc) -> Login {
    let text = |doc: &AuthDoc| Zeroizing::new(String::from_utf8_lossy(doc.bytes()).into_owned());
    let is_login = doc.identity().is_some();
    Login {
        account: account.id.to_string(),
        label: account.label.clone(),
        age: Age {
            issued_at: doc.issued_at(),
            expires_at: doc.expires_at(),
            renewed_at: doc.last_refresh_nanos(),
        },
        token: doc.token_hash().map_or_else(String::new, |token| token.as_str().to_owned()),
        document: text(doc),
        access: is_login.then(|| text(&doc.clone().access_only())),
    }
}

/// Returns the document of a login that was shared.
///
/// # Errors
/// It is no document of its account.
pub(crate) fn document(login: &Login) -> Result<AuthDoc> {
    let doc = AuthDoc::parse(login.document.as_bytes().to_vec()).ok();
    doc.filter(|doc| doc.id().as_str() == login.account).ok_or_else(|| {
        Error::new(format!("the shared login of `{}` is not the login of that account", login.label))
            .hint("log in to it again on any member: `codex-pool reauth`")
    })
}

/// Returns what went wrong as an error with its next step.
pub(crate) fn explain(error: &ShareError) -> Error {
    let next = match error {
        ShareError::Store(StoreError::Down(_) | StoreError::Unknown(_)) => {
            "nothing is lost: accounts work on until their access tokens end; try again when the database answers"
        }
        ShareError::Store(StoreError::Refused(refusal, _)) => match refusal {
            Refusal::Password => {
                "if it was changed: `codex-pool share rotate --url` on a member, and join again with the others"
            }
            Refusal::Database => "make it with `createdb`, or correct the name at the end of the address",
            Refusal::Rights => {
                "grant that to the user in the address, or give another one; docs/share.md has the rights"
            }
            Refusal::NoPool => "`codex-pool share init` shares this machine's pool there",
            Refusal::ReadOnly => "give the address of the database that is written to",
            Refusal::Full => "nothing is lost; make room there, and try again",
            Refusal::Certificates => {
                "name a file with certificates of authorities in `sslrootcert`, or take it out"
            }
            Refusal::Other => "put that right at the database, and try again",
        },
        ShareError::Store(StoreError::Newer) | ShareError::Refused(Refused::Newer) => {
            "update with `codex-pool update`"
        }
        ShareError::Refused(Refused::Rotated) => {
            "join again: `codex-pool share code` on a member, `codex-pool share join` here"
        }
        ShareError::Refused(_) | ShareError::Malformed | ShareError::Rollback => {
            "nothing of it was used; restore the database, or share the pool anew: `codex-pool share leave`, \
             `codex-pool share init`"
        }
        ShareError::Busy => "try again",
        ShareError::Gone => "`codex-pool share leave`, then join again with a new code",
    };
    Error::new(error.to_string()).hint(next)
}
