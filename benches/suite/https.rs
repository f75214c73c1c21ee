//! A service behind TLS, with a private CA, that answers every request after a pause.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use testkit::tls;

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

pub(crate) fn start(latency: Duration) -> Service {
    let (config, ca) = tls::server("127.0.0.1");
    let seen = Arc::new(Seen::default());
    let shared = Arc::clone(&seen);
    let answer = move |_head: String| {
        shared.count.fetch_add(1, Ordering::SeqCst);
        let now = shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most.fetch_max(now, Ordering::SeqCst);
        thread::sleep(latency);
        shared.in_flight.fetch_sub(1, Ordering::SeqCst);
    };
    let address = tls::listen(move |stream| tls::serve(stream, &config, &answer));
    Service { address, ca, seen }
}
