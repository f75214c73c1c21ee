//! The network: the only user of ureq. Asks for usage, refreshes tokens, fetches releases. It reads
//! no file of the pool and writes none, and nobody calls it while `pool.lock` is held.

mod error;
mod lookup;
pub(crate) mod place;
pub(crate) mod reach;
pub(crate) mod releases;
pub(crate) mod token;
mod trust;
pub(crate) mod usage;

use std::time::Duration;

use codex_pool_core::Result;
use codex_pool_core::auth_doc::Secret;
use codex_pool_core::env::Env;
use serde_json::Value;
use ureq::config::{AutoHeaderValue, ConfigBuilder};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body, http};

pub(crate) use error::{NetError, ServiceError};

/// How long a connection may take to be made, name lookup and TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a whole request may take.
const WHOLE: Duration = Duration::from_secs(15);
/// Larger answers are refused; the service's own are a few KB.
const MAX_ANSWER: u64 = 1 << 20;

/// Agents with the user's proxy and certificates. Cheap to make: certificates are read when the
/// first https connection is made, and nothing is read from the environment later.
pub(crate) struct Net {
    direct: Agent,
    proxied: Option<(Agent, trust::Bypass)>,
}

impl Net {
    /// Reads proxy variables and the extra certificates of `CODEX_CA_CERTIFICATE` or `SSL_CERT_FILE`.
    ///
    /// # Errors
    /// If a proxy variable is no address, or the certificates cannot be used: going on without
    /// them would only fail later, and with a worse message.
    pub(crate) fn new(env: &Env) -> Result<Net> {
        let tls = trust::tls_config(env)?;
        let config = |proxy| configure(Agent::config_builder()).tls_config(tls.clone()).proxy(proxy).build();
        let proxied = trust::proxy(env)?.map(|(proxy, bypass)| (lookup::agent(config(Some(proxy))), bypass));
        Ok(Net { direct: lookup::agent(config(None)), proxied })
    }

    /// The agent for a host. Loopback is always reached directly: plain http is allowed there, and
    /// through a proxy "loopback" would be another machine's.
    pub(crate) fn agent(&self, host: &str) -> &Agent {
        match &self.proxied {
            Some((agent, bypass)) if !place::is_loopback(host) && !bypass.matches(host) => agent,
            _ => &self.direct,
        }
    }

    /// An agent for a host that shares no connection with anybody. One from a pool may have been
    /// closed by the other side, and then nobody could tell whether a request was carried out.
    fn lone_agent(&self, host: &str) -> Agent {
        lookup::agent(self.agent(host).config().clone())
    }
}

/// Sends a request that carries a secret, and reads the answer's JSON. A redirect is an error.
fn call(agent: &Agent, request: http::Request<Vec<u8>>, secret: &Secret) -> Result<Value, NetError> {
    let host = request.uri().host().unwrap_or("").to_owned();
    let response = agent.run(request).map_err(|e| NetError::of_ureq(&e, &host))?;
    let (head, mut body) = response.into_parts();
    let bytes = read(&mut body).map_err(|e| NetError::of_ureq(&e, &host));
    match head.status.as_u16() {
        200..=299 => serde_json::from_slice(&bytes?).map_err(|_| NetError::Garbled),
        300..=399 => Err(NetError::Redirected),
        status => {
            let body = bytes.as_deref().unwrap_or_default();
            Err(NetError::Service(ServiceError::read(status, &head.headers, body, secret)))
        }
    }
}

/// What every agent of ours has in common.
fn configure(builder: ConfigBuilder<AgentScope>) -> ConfigBuilder<AgentScope> {
    builder
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("codex-pool/", env!("CARGO_PKG_VERSION")))
        .accept_encoding(AutoHeaderValue::None)
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(WHOLE))
        .input_buffer_size(16 << 10)
        .output_buffer_size(16 << 10)
        .max_idle_connections_per_host(4)
}

fn read(body: &mut Body) -> Result<Vec<u8>, ureq::Error> {
    body.with_config().limit(MAX_ANSWER).read_to_vec()
}
