//! A service behind TLS that answers every request after a while, with a private CA.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

const ANSWER: &str = r#"{"plan_type":"plus","rate_limit":{"allowed":true,"limit_reached":false,"primary_window":{"used_percent":12,"limit_window_seconds":18000,"reset_after_seconds":60},"secondary_window":null}}"#;

/// The service.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    /// Its CA's certificate, PEM.
    pub(crate) ca: String,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    count: AtomicUsize,
    in_flight: AtomicUsize,
    most: AtomicUsize,
}

impl Service {
    /// Requests so far.
    pub(crate) fn count(&self) -> usize {
        self.seen.count.load(Ordering::SeqCst)
    }

    /// Returns the most that were unanswered at once.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.seen.most.load(Ordering::SeqCst)
    }
}

/// Starts it.
pub(crate) fn start(latency: Duration) -> Service {
    let (config, ca) = testkit::tls::server("127.0.0.1");
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("an address");
    let seen = Arc::new(Seen::default());
    let shared = Arc::clone(&seen);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, seen) = (Arc::clone(&config), Arc::clone(&shared));
            // A client that has all it wants hangs up.
            thread::spawn(move || serve(stream, &config, &seen, latency).is_err());
        }
    });
    Service { address, ca, seen }
}

fn serve(
    stream: TcpStream,
    config: &Arc<ServerConfig>,
    seen: &Seen,
    latency: Duration,
) -> std::io::Result<()> {
    let tls = ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(tls, stream);
    loop {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        seen.count.fetch_add(1, Ordering::SeqCst);
        let now = seen.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most.fetch_max(now, Ordering::SeqCst);
        thread::sleep(latency);
        seen.in_flight.fetch_sub(1, Ordering::SeqCst);
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{ANSWER}", ANSWER.len())?;
        stream.flush()?;
    }
}
