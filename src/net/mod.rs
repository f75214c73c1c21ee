//! The network, and the only user of ureq: fetches usage, renews tokens, downloads releases. Reads and writes no file
//! of the pool. Never called while `pool.lock` is held.

pub(crate) mod endpoint;
mod error;
mod lookup;
mod proxy;
mod reach;
pub(crate) mod releases;
mod tls;
pub(crate) mod token;
mod usage;

use std::time::Duration;

use codex_pool_core::Result;
use codex_pool_core::auth_doc::Secret;
use codex_pool_core::env::Env;
use serde_json::Value;
use ureq::config::{AutoHeaderValue, ConfigBuilder};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body, http};

pub(crate) use error::{NetError, ServiceError};

/// The time limit of a connection, with name lookup and TLS.
const CONNECT: Duration = Duration::from_secs(5);
/// The time limit of a request.
const WHOLE: Duration = Duration::from_secs(15);
/// Larger answers are refused, bytes. The service's have a few KB.
const MAX_ANSWER: u64 = 1 << 20;

/// HTTP clients with the user's proxy and certificates. Cheap to make: the system's certificates are read with the
/// first https connection.
pub(crate) struct Net {
    direct: Agent,
    proxied: Option<Agent>,
}

impl Net {
    /// Reads the proxy variables and the certificates of `CODEX_CA_CERTIFICATE` or `SSL_CERT_FILE`.
    ///
    /// # Errors
    /// A proxy variable is not an address, or the certificates cannot be used. Without them requests would fail later,
    /// with a worse message.
    pub(crate) fn new(env: &Env) -> Result<Net> {
        let tls = tls::config(env)?;
        let config = |proxy| configure(Agent::config_builder()).tls_config(tls.clone()).proxy(proxy).build();
        let proxied = proxy::proxy(env)?.map(|proxy| lookup::agent(config(Some(proxy))));
        Ok(Net { direct: lookup::agent(config(None)), proxied })
    }

    /// Returns the agent for a host. Loopback is always reached directly: plain http is allowed there, and a proxy's
    /// loopback is another machine.
    fn agent(&self, host: &str) -> &Agent {
        match &self.proxied {
            Some(agent) if !endpoint::is_loopback(host) => agent,
            _ => &self.direct,
        }
    }

    /// Returns an agent for a host that shares no connection. A shared one may have been closed by the other side, and
    /// then it cannot be told whether a request was carried out.
    fn unshared_agent(&self, host: &str) -> Agent {
        lookup::agent(self.agent(host).config().clone())
    }
}

/// Sends a request that carries a secret, and returns the answer's JSON. A redirect is an error.
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

/// Sets what all agents have in common.
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
