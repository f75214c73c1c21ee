//! A service behind TLS with a private certificate authority, as in a company's network.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Returns a server's side of TLS for that host, with a certificate of a private CA; and the CA's own certificate, PEM.
pub fn server(host: &str) -> (Arc<ServerConfig>, String) {
    let ca_key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).expect("a CA").pem();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
    let certificate = certificate.signed_by(&key, &issuer).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth();
    (Arc::new(config.with_single_cert(vec![certificate.into()], key).expect("a server")), ca)
}

/// What [`serve`] answers: usage with 12 percent of a 5h window.
const ANSWER: &str = r#"{"plan_type":"plus","rate_limit":{"allowed":true,"limit_reached":false,"primary_window":{"used_percent":12,"limit_window_seconds":18000,"reset_after_seconds":60},"secondary_window":null}}"#;

/// Handles each connection to a port of loopback in a thread of its own, as long as this program runs. Returns the
/// address.
///
/// # Panics
/// If loopback cannot be listened on.
pub fn listen(handle: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("an address");
    let handle = Arc::new(handle);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = Arc::clone(&handle);
            // A client that hangs up, as one that does not trust the certificate does, is ignored.
            thread::spawn(move || handle(stream).is_err());
        }
    });
    address
}

/// Reads the head of a request, up to the empty line.
///
/// # Errors
/// The connection ends before.
pub fn head(stream: &mut impl Read) -> std::io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Answers the requests of a connection behind TLS with usage, each after `seen` has got its head.
///
/// # Errors
/// The client does not trust the certificate, or hangs up.
pub fn serve(
    stream: TcpStream,
    config: &Arc<ServerConfig>,
    mut seen: impl FnMut(String),
) -> std::io::Result<()> {
    let tls = ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(tls, stream);
    loop {
        seen(head(&mut stream)?);
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{ANSWER}", ANSWER.len())?;
        stream.flush()?;
    }
}
