//! A stand-in for the place where releases are: archives, checksums and the newest version, served on loopback,
//! whole or broken on purpose. The programs in its archives are small scripts that answer as the real ones do.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use crate::http::Server;

/// What one path answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The whole file
    Whole(Vec<u8>),
    /// Half of what is promised, then the connection ends
    Truncated(Vec<u8>),
    /// A redirect to this URL
    Redirect(String),
    /// Nothing, until the client gives up
    Hang,
    /// Megabytes without end
    Flood,
    /// A byte now and then, without end
    Drip,
}

/// A running release server.
pub struct Releases {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<HashMap<String, Answer>>,
    log: Mutex<Vec<String>>,
}

impl Releases {
    /// Starts one without any release.
    ///
    /// # Errors
    /// No port is free.
    pub fn start() -> io::Result<Releases> {
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let server = Server::start(move |request, reply| {
            lock(&serving.log).push(request.path.clone());
            let answer = lock(&serving.answers).get(&request.path).cloned();
            match answer {
                Some(Answer::Whole(body)) => reply.send(200, &[], &body),
                Some(Answer::Truncated(body)) => reply.truncated(200, &body),
                Some(Answer::Redirect(to)) => reply.send(302, &[("location", &to)], b"moved"),
                Some(Answer::Hang) => reply.hang(),
                Some(Answer::Flood) => reply.repeat(&"flood\n".repeat(200_000)),
                Some(Answer::Drip) => reply.repeat("."),
                None => reply.send(404, &[], b"Not Found"),
            }
        })?;
        Ok(Releases { server, shared })
    }

    /// Returns the value for `CODEX_POOL_RELEASES`.
    pub fn base(&self) -> String {
        format!("http://{}/releases", self.server.addr)
    }

    /// Sets the answer at a path below [`Releases::base`], like `latest/download/version.txt`.
    pub fn put(&self, path: &str, answer: Answer) {
        lock(&self.shared.answers).insert(format!("/releases/{path}"), answer);
    }

    /// Makes a path 404 again.
    pub fn remove(&self, path: &str) {
        lock(&self.shared.answers).remove(&format!("/releases/{path}"));
    }

    /// Returns the paths that were asked for, in order.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.log).clone()
    }

    /// Publishes an archive with its checksum, as a release does, and names this version the newest.
    pub fn publish(&self, version: &str, target: &str, archive: Vec<u8>) {
        let path = archive_path(version, target);
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        self.put(&format!("{path}.sha256"), Answer::Whole(checksum_file(&archive, &name)));
        self.put(&path, Answer::Whole(archive));
        self.put("latest/download/version.txt", Answer::Whole(format!("{version}\n").into_bytes()));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the path of an archive below [`Releases::base`].
pub fn archive_path(version: &str, target: &str) -> String {
    format!("download/v{version}/codex-pool-{version}-{target}.tar.gz")
}

/// Returns the target whose archives run on this machine.
pub fn target() -> String {
    let system = if cfg!(target_os = "macos") { "apple-darwin" } else { "unknown-linux-musl" };
    format!("{}-{system}", std::env::consts::ARCH)
}

/// Returns a `.sha256` file, in the format of `sha256sum`.
pub fn checksum_file(bytes: &[u8], name: &str) -> Vec<u8> {
    format!("{}  {name}\n", sha256(bytes)).into_bytes()
}

/// SHA-256 in lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A good archive with one file more that holds so many zeros: small to send, large to unpack.
///
/// # Panics
/// Never in practice: it writes to memory only.
pub fn large_archive(version: &str, size: usize) -> Vec<u8> {
    let pack = |bytes: &[u8]| {
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(bytes).expect("write to memory");
        gz.finish().expect("write to memory")
    };
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in [("codex-pool", tool(version)), ("codex", shim(version))] {
        tar.append(&header(name, tar::EntryType::Regular, bytes.len() as u64), &*bytes)
            .expect("write to memory");
    }
    let mut first = tar.into_inner().expect("write to memory");
    // Its end comes later.
    first.truncate(first.len() - 1024);
    first.extend(header("zeros", tar::EntryType::Regular, size as u64).as_bytes());
    // Packed files one after another are packed as well as one.
    let zeros = pack(&vec![0; 1 << 20]);
    [pack(&first), zeros.repeat(size >> 20), pack(&[0; 1024])].concat()
}

fn header(name: &str, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).expect("a short name");
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o755);
    header.set_cksum();
    header
}

/// The beginning of a `.tar.gz` of one file with this name that holds so many zeros: small to send, large to unpack.
///
/// # Panics
/// Never in practice: it writes to memory only.
pub fn bomb(name: &str, kind: tar::EntryType, size: u64) -> Vec<u8> {
    let header = header(name, kind, size);
    // A megabyte of zeros behind a megabyte of zeros is always packed alike, so it is packed once and repeated.
    let zeros = vec![0; 1 << 20];
    let mut packed = Vec::new();
    let mut gz = GzEncoder::new(&mut packed, Compression::fast());
    gz.write_all(header.as_bytes()).and_then(|()| gz.write_all(&zeros)).expect("write to memory");
    gz.flush().expect("write to memory");
    let before = gz.get_ref().len();
    gz.write_all(&zeros).and_then(|()| gz.flush()).expect("write to memory");
    let again = gz.get_ref()[before..].to_vec();
    drop(gz);
    // Without the end, which nobody may reach.
    packed.truncate(before);
    packed.extend(again.repeat(usize::try_from(size >> 20).expect("fits")));
    packed
}

/// Returns a `.tar.gz` of executable files.
///
/// # Panics
/// Never in practice: it writes to memory only.
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        tar.append_data(&mut header, name, *bytes).expect("write to memory");
    }
    tar.into_inner().and_then(GzEncoder::finish).expect("write to memory")
}

/// Returns the archive that a release of this version has, with stand-ins for both programs.
pub fn good_archive(version: &str) -> Vec<u8> {
    archive(&[
        ("codex-pool", &tool(version)),
        ("codex", &shim(version)),
        ("LICENSE-MIT", b"licence"),
        ("LICENSE-APACHE", b"licence"),
    ])
}

/// Returns a stand-in for `codex-pool`: it knows its version, and prints a manual page and completions. Big and hard to
/// compress, as programs are.
pub fn tool(version: &str) -> Vec<u8> {
    padded(format!(
        "#!/bin/sh\ncase $1 in\n--version) echo 'codex-pool {version}' ;;\n\
         man | completions) echo \"$* of {version}\" ;;\n*) exit 1 ;;\nesac\nexit\n"
    ))
}

/// Returns a stand-in for the shim: it carries the marker and knows its version when asked as the installer asks.
pub fn shim(version: &str) -> Vec<u8> {
    padded(format!(
        "#!/bin/sh\n# codex-pool-shim-marker {version}\n\
         [ \"$CODEX_POOL_SHIM_VERSION\" = 1 ] && echo 'codex-shim {version}'\nexit\n"
    ))
}

/// 200 kB of noise behind the script: comments, in case that its `exit` got lost in a test.
fn padded(script: String) -> Vec<u8> {
    let mut x = 0x9e37_79b9_u32;
    let mut noise = std::iter::repeat_with(|| {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x.to_le_bytes()
    });
    let mut bytes = script.into_bytes();
    while bytes.len() < 200_000 {
        let line: Vec<u8> = noise.by_ref().take(15).flatten().collect();
        bytes.extend(format!("# {}\n", STANDARD.encode(line)).bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_that_is_small_to_send_is_large_to_unpack() {
        let small = bomb("x", tar::EntryType::Regular, 8 << 20);
        let unpacked = io::copy(&mut flate2::read::GzDecoder::new(&*small), &mut io::sink());
        assert!(unpacked.is_err(), "it has an end");
        let large = large_archive("1.2.3", 8 << 20);
        let unpacked = io::copy(&mut flate2::read::MultiGzDecoder::new(&*large), &mut io::sink());
        assert!(unpacked.expect("an archive") > 8 << 20 && large.len() < 1 << 20);
    }
}
