//! Name lookup that is an error where ureq's own panics: when the system gives no thread for it.

use std::sync::mpsc;
use std::thread;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::unversioned::transport::time::Duration;
use ureq::{Agent, Error};

/// An agent that looks names up so.
pub(super) fn agent(config: Config) -> Agent {
    use ureq::unversioned::transport::DefaultConnector;
    Agent::with_parts(config, DefaultConnector::new(), Lookup)
}

#[derive(Debug)]
struct Lookup;

impl Resolver for Lookup {
    /// The lookup itself knows no time limit, so it runs on a thread that may be left behind.
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let (uri, config) = (uri.clone(), config.clone());
        let unlimited = NextTimeout { after: Duration::NotHappening, ..timeout };
        let (sender, receiver) = mpsc::sync_channel(1);
        thread::Builder::new().spawn(move || {
            // Nobody listens any more when it took too long.
            let _ = sender.send(DefaultResolver::default().resolve(&uri, &config, unlimited));
        })?;
        receiver.recv_timeout(*timeout.after).unwrap_or(Err(Error::Timeout(timeout.reason)))
    }
}
