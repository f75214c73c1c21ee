//! Name lookup for ureq. Its own panics if the system gives it no thread; here that is an error.

use std::sync::mpsc;
use std::thread;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::unversioned::transport::time::Duration;
use ureq::{Agent, Error};

/// Returns an agent with this name lookup.
pub(super) fn agent(config: Config) -> Agent {
    use ureq::unversioned::transport::DefaultConnector;
    Agent::with_parts(config, DefaultConnector::new(), Lookup)
}

#[derive(Debug)]
struct Lookup;

impl Resolver for Lookup {
    /// The system's lookup has no time limit, so it runs on a thread that may be left behind.
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
            // After the time limit nothing receives it.
            let _ = sender.send(DefaultResolver::default().resolve(&uri, &config, unlimited));
        })?;
        receiver.recv_timeout(*timeout.after).unwrap_or(Err(Error::Timeout(timeout.reason)))
    }
}
