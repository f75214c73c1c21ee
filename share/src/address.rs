//! The address of a database: what a person gives, and what must hold of it. A database on another machine is spoken to
//! through TLS alone, with a certificate that is checked and names it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// An address that can be used.
#[derive(Clone)]
pub struct Address {
    pub(crate) config: Config,
    /// Whether TLS is spoken.
    pub(crate) tls: bool,
    /// Certificate authorities instead of the system's.
    pub(crate) root: Option<PathBuf>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Shows host and database, and no password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => "localhost".to_owned(),
        };
        write!(f, "{host}/{}", self.config.get_dbname().unwrap_or("?"))
    }
}

/// Why an address cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadAddress {
    /// It is no URL of a PostgreSQL database.
    NoUrl,
    /// Part of it is not understood.
    Part(String),
    /// It names no database.
    NoDatabase,
    /// It asks for no TLS, and the database is on another machine.
    Plain(String),
}

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadAddress::NoUrl => f.write_str(
                "this is no address of a PostgreSQL database; it looks like postgres://user:password@host/database",
            ),
            BadAddress::Part(what) => write!(f, "the address cannot be used: {what}"),
            BadAddress::NoDatabase => f.write_str("the address names no database: it ends with /database"),
            BadAddress::Plain(host) => write!(
                f,
                "{host} is another machine, and its address asks for no TLS: take `sslmode=disable` out of it"
            ),
        }
    }
}

impl std::error::Error for BadAddress {}

/// Returns whether that host is this machine.
fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            let address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            name == "localhost" || address.is_ok_and(|address| address.is_loopback())
        }
    }
}

impl Address {
    /// Returns the user of the database.
    pub fn user(&self) -> Option<&str> {
        self.config.get_user()
    }

    /// Returns the address of a URL.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn parse(url: &str) -> Result<Address, BadAddress> {
        let url = url.trim();
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(BadAddress::NoUrl);
        }
        // What this client does not know of libpq's settings is read here.
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut others, mut mode, mut root) = (Vec::new(), None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", "system")) => {}
                Some(("sslrootcert", value)) => root = Some(PathBuf::from(value.replace("%2F", "/"))),
                _ => others.push(pair),
            }
        }
        let plain = match mode {
            None | Some("allow" | "prefer" | "require" | "verify-ca" | "verify-full") => false,
            Some("disable") => true,
            Some(other) => return Err(BadAddress::Part(format!("there is no sslmode `{other}`"))),
        };
        let others = others.join("&");
        let url = if others.is_empty() { base.to_owned() } else { format!("{base}?{others}") };
        // The error of the client may quote the URL with its password.
        let mut config = Config::from_str(&url).map_err(|e| {
            let source = std::error::Error::source(&e).map_or_else(String::new, ToString::to_string);
            let quotes =
                source.is_empty() || config_password(base).is_some_and(|password| source.contains(password));
            BadAddress::Part(if quotes { "a part of it is not understood".to_owned() } else { source })
        })?;
        if config.get_dbname().is_none_or(str::is_empty) {
            return Err(BadAddress::NoDatabase);
        }
        let remote = config.get_hosts().iter().find(|host| !is_local(host));
        if let (Some(Host::Tcp(host)), true) = (remote, plain) {
            return Err(BadAddress::Plain(host.clone()));
        }
        let tls =
            remote.is_some() || mode.is_some_and(|mode| mode.starts_with("verify") || mode == "require");
        config.ssl_mode(if tls { SslMode::Require } else { SslMode::Disable });
        config.application_name("codex-pool");
        Ok(Address { config, tls, root })
    }
}

/// Returns the URL with another user. `user` and `password` need no escape.
pub fn with_user(url: &str, user: &str, password: &str) -> String {
    let url = url.trim();
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = base.split('/').next().unwrap_or_default();
    let place = authority.rfind('@').map_or(base, |at| &base[at + 1..]);
    let named = |pair: &&str| ["user=", "password="].iter().any(|name| pair.starts_with(name));
    let query: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !named(pair)).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    format!("{scheme}://{user}:{password}@{place}{query}")
}

/// Returns the password in a URL, as it is written there.
fn config_password(base: &str) -> Option<&str> {
    let (user, _) = base.split_once("://")?.1.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password).filter(|password| !password.is_empty())
}
