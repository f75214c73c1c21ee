//! A small HTTP/1.1 server on loopback: one thread per connection, keep-alive, streamed answers, and
//! answers that are broken on purpose. It knows nothing about accounts; `backend` gives it a handler.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

/// Longest body that is read; everything here is small, so more is a mistake of the client.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// One request, read whole.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path without the query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// First header of that name, whatever its case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// Returns the token of `Authorization: Bearer …`.
    pub(crate) fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// The answer to one request, written straight to the connection.
pub(crate) struct Reply<'a> {
    stream: &'a TcpStream,
    /// Nothing is really written.
    muted: bool,
    stopping: &'a AtomicBool,
    /// Status sent, or 0 while (or if) nothing was sent.
    pub(crate) status: u16,
    keep_alive: bool,
    /// The end of the answer. It is written after the handler has returned, so that what the handler notes is
    /// noted before the client can know the answer.
    last: Vec<u8>,
}

impl<'a> Reply<'a> {
    fn new(stream: &'a TcpStream, stopping: &'a AtomicBool, keep_alive: bool) -> Reply<'a> {
        Reply { stream, muted: false, stopping, status: 0, keep_alive, last: Vec::new() }
    }

    fn finish(&mut self) {
        let last = std::mem::take(&mut self.last);
        self.write(&last);
    }

    /// Sends a complete answer.
    pub(crate) fn send(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = self.head(status, headers);
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        self.last = [head.as_bytes(), body].concat();
    }

    /// Sends a complete JSON answer.
    pub(crate) fn json(&mut self, status: u16, body: &Value) {
        self.send(status, &[("content-type", "application/json")], body.to_string().as_bytes());
    }

    /// Starts an answer whose length is not known yet; go on with [`Reply::chunk`], close with [`Reply::end`].
    pub(crate) fn start(&mut self, status: u16, headers: &[(&str, &str)]) {
        let head = self.head(status, headers);
        self.write(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes());
    }

    pub(crate) fn chunk(&mut self, text: &str) {
        self.write(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes());
    }

    /// The last part of an answer that was started.
    pub(crate) fn end(&mut self, text: &str) {
        self.last = format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len()).into_bytes();
    }

    /// Switches to another protocol and gives the connection, which ends with this reply.
    pub(crate) fn upgrade(&mut self, headers: &[(&str, &str)]) -> &'a TcpStream {
        let head = self.head(101, headers);
        self.write(format!("{head}\r\n").as_bytes());
        self.keep_alive = false;
        self.stream
    }

    /// Promises twice the body that is sent, then closes.
    pub(crate) fn truncated(&mut self, status: u16, body: &[u8]) {
        let mut head = self.head(status, &[("content-type", "application/json")]);
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len() * 2 + 1));
        self.last = [head.as_bytes(), body].concat();
        self.keep_alive = false;
    }

    /// Closes without (more of) an answer.
    pub(crate) fn hang_up(&mut self) {
        self.keep_alive = false;
    }

    /// Returns the same reply, but what is written to it goes nowhere.
    pub(crate) fn muted(&self) -> Reply<'_> {
        Reply { muted: true, last: Vec::new(), ..*self }
    }

    /// Says nothing until the client gives up or the server stops.
    pub(crate) fn hang(&mut self) {
        while !self.stopping.load(Ordering::SeqCst) && !self.client_gone() {}
        self.keep_alive = false;
    }

    /// Sends this over and over until the client gives up or the server stops, with a pause of up to 20 ms.
    pub(crate) fn repeat(&mut self, chunk: &str) {
        self.start(200, &[]);
        while !self.stopping.load(Ordering::SeqCst) && !self.client_gone() {
            self.chunk(chunk);
        }
        self.keep_alive = false;
    }

    /// Returns whether the client closed the connection; looks for up to 20 ms.
    pub(crate) fn client_gone(&self) -> bool {
        if self.stream.set_read_timeout(Some(Duration::from_millis(20))).is_err() {
            return true;
        }
        let gone = match self.stream.peek(&mut [0]) {
            Ok(n) => n == 0,
            Err(e) => !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        };
        gone || self.stream.set_read_timeout(None).is_err()
    }

    fn head(&mut self, status: u16, headers: &[(&str, &str)]) -> String {
        self.status = status;
        let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut stream = self.stream;
        if !self.muted && stream.write_all(bytes).is_err() {
            self.keep_alive = false;
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        302 => "Found",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

/// A running server; dropping it closes every connection.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    shared: Arc<Connections>,
}

#[derive(Default)]
struct Connections {
    stopping: AtomicBool,
    next: AtomicU64,
    open: Mutex<HashMap<u64, TcpStream>>,
}

impl Server {
    /// Listens on a free port of 127.0.0.1 and calls `handler` for each request, many at once.
    pub(crate) fn start(
        handler: impl Fn(&Request, &mut Reply<'_>) + Send + Sync + 'static,
    ) -> io::Result<Server> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Connections::default());
        let handler = Arc::new(handler);
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (shared, handler) = (Arc::clone(&accepting), Arc::clone(&handler));
                std::thread::spawn(move || shared.serve(&stream, &*handler));
            }
        });
        Ok(Server { addr, shared })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; if that fails there is none to wake.
        let _ = TcpStream::connect(self.addr);
        for stream in self.shared.lock().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Connections {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: &TcpStream, handler: &(dyn Fn(&Request, &mut Reply<'_>) + Sync)) {
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let Ok(copy) = stream.try_clone() else { return };
        self.lock().insert(id, copy);
        // Answers are small and latency is measured against them.
        let _ = stream.set_nodelay(true);
        let mut pending = Vec::new();
        while !self.stopping.load(Ordering::SeqCst) {
            let Ok(Some(request)) = read_request(stream, &mut pending) else { break };
            let keep = !request.header("connection").is_some_and(|c| c.eq_ignore_ascii_case("close"));
            let mut reply = Reply::new(stream, &self.stopping, keep);
            handler(&request, &mut reply);
            reply.finish();
            if !reply.keep_alive || reply.status == 0 {
                break;
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
        self.lock().remove(&id);
    }
}

/// Reads one request; `pending` keeps what came beyond it. `None` when the client closed in between.
fn read_request(mut stream: &TcpStream, pending: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let (mut request, body_at) = loop {
        if let Some(found) = parse_head(pending)? {
            break found;
        }
        if !fill(stream, pending)? {
            return Ok(None);
        }
    };
    pending.drain(..body_at);
    if request.header("expect").is_some_and(|e| e.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if request.header("transfer-encoding").is_some_and(|t| t.to_ascii_lowercase().contains("chunked")) {
        request.body = read_chunks(stream, pending)?;
        return Ok(Some(request));
    }
    let length = request.header("content-length").map_or(Ok(0), str::parse).map_err(invalid)?;
    request.body = take(stream, pending, length)?;
    Ok(Some(request))
}

fn parse_head(bytes: &[u8]) -> io::Result<Option<(Request, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 96];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(body_at) = parsed.parse(bytes).map_err(invalid)? else { return Ok(None) };
    let target = parsed.path.unwrap_or("/");
    let path = target.split('?').next().unwrap_or("/").to_owned();
    let headers =
        parsed.headers.iter().map(|h| (h.name.to_owned(), String::from_utf8_lossy(h.value).into_owned()));
    let request = Request {
        method: parsed.method.unwrap_or("GET").to_owned(),
        path,
        headers: headers.collect(),
        body: Vec::new(),
    };
    Ok(Some((request, body_at)))
}

fn read_chunks(stream: &TcpStream, pending: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (at, size) = loop {
            if let httparse::Status::Complete(found) =
                httparse::parse_chunk_size(pending).map_err(|_| invalid("chunk size"))?
            {
                break found;
            }
            if !fill(stream, pending)? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        pending.drain(..at);
        let size = usize::try_from(size).map_err(invalid)?;
        body.extend(take(stream, pending, size)?);
        take(stream, pending, 2)?;
        if size == 0 {
            return Ok(body);
        }
        if body.len() > MAX_BODY {
            return Err(invalid("body too long"));
        }
    }
}

fn take(stream: &TcpStream, pending: &mut Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
    if length > MAX_BODY {
        return Err(invalid("body too long"));
    }
    while pending.len() < length {
        if !fill(stream, pending)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(pending.drain(..length).collect())
}

fn fill(mut stream: &TcpStream, pending: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 16 * 1024];
    let read = stream.read(&mut buffer)?;
    pending.extend_from_slice(&buffer[..read]);
    Ok(read > 0)
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo() -> Server {
        Server::start(|request, reply| reply.send(200, &[], &request.body)).expect("a server")
    }

    fn read_until(stream: &mut TcpStream, needle: &str) -> String {
        let mut text = String::new();
        let mut byte = [0];
        while !text.ends_with(needle) && matches!(stream.read(&mut byte), Ok(1)) {
            text.push(char::from(byte[0]));
        }
        text
    }

    #[test]
    fn connection_carries_many_requests_of_either_kind() {
        let server = echo();
        let mut stream = TcpStream::connect(server.addr).expect("connect");
        let plain = "POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\none";
        let chunked =
            "POST /b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\ntw\r\n1\r\no\r\n0\r\n\r\n";
        // The second is cut in the middle of a chunk.
        let (start, rest) = chunked.split_at(chunked.len() - 9);
        stream.write_all(format!("{plain}{start}").as_bytes()).expect("write");
        assert!(read_until(&mut stream, "one").contains("content-length: 3"));
        stream.write_all(format!("{rest}{plain}").as_bytes()).expect("write");
        assert!(read_until(&mut stream, "two").ends_with("\r\n\r\ntwo"));
        assert!(read_until(&mut stream, "one").ends_with("\r\n\r\none"));
    }

    #[test]
    fn connection_is_closed_when_asked_or_when_the_server_ends() {
        let server = echo();
        let mut closing = TcpStream::connect(server.addr).expect("connect");
        closing.write_all(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n").expect("write");
        assert!(read_until(&mut closing, "never").contains("200 OK"));
        let mut waiting = TcpStream::connect(server.addr).expect("connect");
        waiting.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("write");
        read_until(&mut waiting, "\r\n\r\n");
        drop(server);
        assert_eq!(waiting.read(&mut [0]).ok(), Some(0));
    }
}
