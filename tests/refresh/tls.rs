//! https through a proxy, with a private CA, as in a company's network.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use testkit::{World, tls};

use super::{account, pool_of, refresh};

const HOST: &str = "chatgpt.example";

/// What was seen, in order.
type Log = Arc<Mutex<Vec<String>>>;

/// A service behind TLS with a certificate of a private CA, and a proxy before it.
struct Company {
    /// The CA's certificate, PEM.
    ca: String,
    proxy: SocketAddr,
    /// `CONNECT` lines at the proxy.
    connects: Log,
    /// Request heads at the service.
    requests: Log,
}

fn company() -> Company {
    let (config, ca) = tls::server(HOST);
    let (requests, connects) = (Log::default(), Log::default());
    let seen = Arc::clone(&requests);
    let service = tls::listen(move |stream| {
        tls::serve(stream, &config, |request| seen.lock().expect("the log").push(request))
    });
    let seen = Arc::clone(&connects);
    let proxy = tls::listen(move |stream| tunnel(stream, service, &seen));
    Company { ca, proxy, connects, requests }
}

fn tunnel(mut client: TcpStream, service: SocketAddr, seen: &Log) -> std::io::Result<()> {
    let request = tls::head(&mut client)?;
    seen.lock().expect("the log").push(request.lines().next().unwrap_or_default().to_owned());
    let mut server = TcpStream::connect(service)?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
    std::io::copy(&mut server, &mut client).map(|_| ())
}

/// Returns a pool with alice, whose service is the company's, and a file with the CA.
fn behind(company: &Company) -> World {
    let world = pool_of(&["alice"]);
    world.edit_config(|config| {
        config.insert("chatgpt_base_url".into(), format!("https://{HOST}/backend-api").into());
    });
    std::fs::write(world.root().join("ca.pem"), &company.ca).expect("write the CA");
    world
}

fn refresh_with(world: &World, company: &Company, proxy: &str, ca: Option<&str>) -> testkit::Output {
    let mut cmd = world.pool(&["refresh", "--json"]).env("NO_PROXY", "").env("no_proxy", "");
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"] {
        cmd = cmd.env_remove(name);
    }
    cmd = cmd.env(proxy, format!("http://{}", company.proxy));
    if let Some(name) = ca {
        cmd = cmd.env(name, world.root().join("ca.pem"));
    }
    cmd.run()
}

fn error(answer: &serde_json::Value) -> String {
    account(answer, "alice")["error"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn proxy_and_a_private_ca_are_used_where_the_variables_say_so() {
    for (proxy, ca) in [
        ("HTTPS_PROXY", "CODEX_CA_CERTIFICATE"),
        ("https_proxy", "SSL_CERT_FILE"),
        ("ALL_PROXY", "CODEX_CA_CERTIFICATE"),
    ] {
        let company = company();
        let world = behind(&company);
        let answer = refresh_with(&world, &company, proxy, Some(ca)).ok().json();
        assert_eq!(account(&answer, "alice")["usage"]["windows"][0]["used_percent"], 12.0, "{answer}");
        assert_eq!(*company.connects.lock().expect("the log"), [format!("CONNECT {HOST}:443 HTTP/1.1")]);
        let requests = company.requests.lock().expect("the log");
        assert!(requests[0].starts_with("GET /backend-api/wham/usage HTTP/1.1\r\n"), "{}", requests[0]);
        assert!(requests[0].to_lowercase().contains("authorization: bearer "));
    }
}

#[test]
fn service_without_a_known_ca_is_not_trusted_and_gets_nothing() {
    let company = company();
    let world = behind(&company);
    let answer = refresh_with(&world, &company, "HTTPS_PROXY", None).expect(1).json();
    assert!(error(&answer).contains("is not trusted"), "{answer}");
    assert!(error(&answer).contains("CODEX_CA_CERTIFICATE"), "{answer}");
    assert_eq!(company.requests.lock().expect("the log").len(), 0);
}

#[test]
fn proxy_or_ca_that_cannot_be_used_is_an_error_and_not_gone_round() {
    let company = company();
    let world = behind(&company);
    let run = |name: &str, value: &str| world.pool(&["refresh"]).env(name, value).run().expect(1).stderr;
    assert!(run("HTTPS_PROXY", "gopher://x").contains("HTTPS_PROXY is not the address of a proxy"));
    assert!(run("CODEX_CA_CERTIFICATE", "/nonexistent.pem").contains("which is not there"));
    std::fs::write(world.root().join("empty.pem"), "").expect("write");
    let empty = world.root().join("empty.pem");
    assert!(run("CODEX_CA_CERTIFICATE", &empty.to_string_lossy()).contains("holds no certificate"));
}

#[test]
fn loopback_is_reached_directly_whatever_the_proxy() {
    let company = company();
    let world = pool_of(&["alice"]);
    let answer = refresh_with(&world, &company, "ALL_PROXY", None).ok().json();
    assert!(account(&answer, "alice")["usage"].is_object());
    assert_eq!(
        company.connects.lock().expect("the log").len(),
        0,
        "a token in the clear would leave the machine"
    );
    refresh(&world);
}
