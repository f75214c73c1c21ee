//! A stand-in for an MCP server behind OAuth, as Codex's MCP client logs in to one: tokens that are over at once, and
//! refresh tokens that are good for one use.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::http::{Reply, Request, Server};

/// Seconds that an access token is good for: Codex renews it before each use.
const LIFETIME: u32 = 1;

/// A running MCP server.
pub struct Mcp {
    server: Server,
    tokens: Arc<Mutex<Tokens>>,
}

#[derive(Default)]
struct Tokens {
    /// Numbers the tokens; those with this one are the newest.
    newest: u32,
    reused: Vec<String>,
}

impl Mcp {
    /// Starts one without logins.
    ///
    /// # Panics
    /// If loopback cannot be listened on.
    pub fn start() -> Mcp {
        let tokens = Arc::new(Mutex::new(Tokens::default()));
        let serving = Arc::clone(&tokens);
        let server = Server::start(move |request, reply| handle(&serving, request, reply));
        Mcp { server: server.expect("listen on 127.0.0.1"), tokens }
    }

    /// Returns the `url` for `config.toml`.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.server.addr)
    }

    /// Returns the refresh token that is good now.
    pub fn newest(&self) -> String {
        refresh_token(self.tokens.lock().unwrap_or_else(PoisonError::into_inner).newest)
    }

    /// Refresh tokens that came a second time, which a well-behaved client never sends.
    pub fn reused(&self) -> Vec<String> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).reused.clone()
    }
}

/// Does what the browser does after the user has agreed: goes where the page at `url` sends it.
///
/// # Panics
/// If the address names no place on loopback, or no server listens there.
pub fn agree(url: &str) {
    let value = |name: &str| {
        let (_, rest) = url.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("no {name} in {url}"));
        rest.split('&').next().unwrap_or_default().replace("%3A", ":").replace("%2F", "/")
    };
    let (redirect, state) = (value("redirect_uri"), value("state"));
    let (host, path) =
        redirect.strip_prefix("http://").and_then(|r| r.split_once('/')).expect("a place to go");
    let mut stream = TcpStream::connect(host).expect("Codex waits for the browser");
    write!(
        stream,
        "GET /{path}?code=agreed&state={state} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    .and_then(|()| stream.read_to_end(&mut Vec::new()))
    .expect("hand over the code");
}

fn refresh_token(number: u32) -> String {
    format!("mcp-refresh-{number}-")
}

fn handle(tokens: &Mutex<Tokens>, request: &Request, reply: &mut Reply<'_>) {
    let base = format!("http://{}", request.header("host").unwrap_or_default());
    match request.path.as_str() {
        "/.well-known/oauth-authorization-server" => reply.json(200, &metadata(&base)),
        "/register" => {
            let mut client = request.json().unwrap_or_default();
            client["client_id"] = "codex".into();
            reply.json(201, &client);
        }
        "/token" => {
            let form = String::from_utf8_lossy(&request.body).into_owned();
            let sent = form.split('&').find_map(|field| field.strip_prefix("refresh_token="));
            let mut tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(sent) = sent.filter(|sent| *sent != refresh_token(tokens.newest)) {
                tokens.reused.push(sent.to_owned());
                return reply.json(400, &json!({"error": "invalid_grant"}));
            }
            tokens.newest += 1;
            reply.json(200, &grant(tokens.newest));
        }
        "/mcp" if request.method != "POST" => reply.send(405, &[], b""),
        "/mcp" if request.bearer().is_none() => reply.send(401, &[("www-authenticate", "Bearer")], b""),
        "/mcp" => {
            let call = request.json().unwrap_or_default();
            if call["id"].is_null() {
                return reply.send(202, &[], b"");
            }
            reply.json(200, &json!({"jsonrpc": "2.0", "id": call["id"], "result": result(&call)}));
        }
        _ => reply.send(404, &[], b""),
    }
}

fn metadata(base: &str) -> Value {
    json!({
        "issuer": base, "authorization_endpoint": format!("{base}/authorize"),
        "token_endpoint": format!("{base}/token"), "registration_endpoint": format!("{base}/register"),
        "response_types_supported": ["code"], "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"], "token_endpoint_auth_methods_supported": ["none"],
    })
}

fn grant(number: u32) -> Value {
    json!({
        "access_token": format!("mcp-access-{number}-"), "refresh_token": refresh_token(number),
        "token_type": "Bearer", "expires_in": LIFETIME,
    })
}

fn result(call: &Value) -> Value {
    match call["method"].as_str() {
        Some("initialize") => json!({
            "protocolVersion": call["params"]["protocolVersion"], "capabilities": {"tools": {}},
            "serverInfo": {"name": "lab", "version": "1"},
        }),
        Some("tools/list") => json!({"tools": [{"name": "nothing", "inputSchema": {"type": "object"}}]}),
        _ => json!({}),
    }
}
