//! Releases of codex-pool: where they are, which one is the newest, and downloading and verifying one. The release
//! workflow writes the repository into the program; it is never guessed. No token is sent.

use std::io::Read;
use std::time::Duration;

use codex_pool_core::{Error, Result};
use flate2::read::GzDecoder;
use semver::Version;
use sha2::{Digest, Sha256};
use ureq::http::StatusCode;

use super::endpoint::Endpoint;
use super::{Net, NetError};

/// `OWNER/NAME`, set by the release workflow. A build from source has none.
const REPOSITORY: Option<&str> = option_env!("CODEX_POOL_RELEASE_REPOSITORY");
/// An archive is smaller than this, bytes. It has about 10 MB.
const MAX_ARCHIVE: u64 = 64 << 20;
/// Each program in it is smaller than this, bytes. It has about 10 MB.
const MAX_PROGRAM: u64 = 64 << 20;
/// All that is in it is smaller than this, bytes.
const MAX_UNPACKED: u64 = 256 << 20;
/// A checksum or a version is smaller than this, bytes.
const MAX_TEXT: u64 = 4 << 10;
/// The time limit of a download, for slow lines.
const ARCHIVE_TIME: Duration = Duration::from_secs(15 * 60);
/// What helps where a release is not as it should be.
const AGAIN: &str = "try again later, or another version with `--version`";
/// GitHub redirects once or twice, to its own storage.
const MAX_REDIRECTS: u32 = 5;

/// The place where releases are.
#[derive(Debug)]
pub(crate) struct Source {
    base: String,
    endpoint: Endpoint,
}

/// The two programs of a release.
pub(crate) struct Programs {
    /// `codex-pool`
    pub(crate) tool: Vec<u8>,
    /// The shim, `codex`
    pub(crate) shim: Vec<u8>,
}

/// Returns the name of this platform in archives. `None`: there are none for it.
pub(crate) fn target() -> Option<&'static str> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Some("x86_64-unknown-linux-musl"),
        ("linux", "aarch64") => Some("aarch64-unknown-linux-musl"),
        ("macos", "x86_64") => Some("x86_64-apple-darwin"),
        ("macos", "aarch64") => Some("aarch64-apple-darwin"),
        _ => None,
    }
}

impl Source {
    /// Returns the place that the user names (`CODEX_POOL_RELEASES`), else the one that was built in.
    ///
    /// # Errors
    /// There is none, or it is neither https nor on this machine.
    pub(crate) fn new(named: Option<&str>) -> Result<Source> {
        Source::of(named, REPOSITORY)
    }

    fn of(named: Option<&str>, repository: Option<&str>) -> Result<Source> {
        let base = match (named, repository) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, Some(repository)) => format!("https://github.com/{repository}/releases"),
            (None, None) => {
                return Err(Error::new("this codex-pool was built from source and has no release source").hint(
                    "update the checkout and run its install.sh (`git pull && sh install.sh`), or name a place in \
                     CODEX_POOL_RELEASES, such as https://github.com/OWNER/NAME/releases",
                ));
            }
        };
        let endpoint = Endpoint::releases(&base).map_err(|e| Error::new(e.to_string()))?;
        Ok(Source { base, endpoint })
    }

    /// Returns the address, for the receipt.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Returns the newest version, from a file of the newest release: GitHub's API limits requests without a login.
    ///
    /// # Errors
    /// There is no answer, or no version in it.
    pub(crate) fn newest(&self, net: &Net) -> Result<Version> {
        let url = format!("{}/latest/download/version.txt", self.base);
        let text = self.text(net, &url)?;
        Version::parse(text.trim())
            .map_err(|_| Error::new(format!("{url} does not name a version")).hint(AGAIN))
    }

    /// Downloads the programs of a version and verifies the archive's checksum. `progress` is called with the bytes
    /// that came and those that will come (if that is not known: those that came).
    ///
    /// # Errors
    /// A file is missing or incomplete, has another checksum, or is not an archive of ours.
    pub(crate) fn fetch(
        &self,
        net: &Net,
        version: &Version,
        target: &str,
        progress: impl FnMut(usize, usize),
    ) -> Result<Programs> {
        let name = format!("codex-pool-{version}-{target}.tar.gz");
        let url = format!("{}/download/v{version}/{name}", self.base);
        let sum = self.text(net, &format!("{url}.sha256"))?;
        let expected = checksum_of(&sum, &name)
            .ok_or_else(|| Error::new(format!("{url}.sha256 is not a checksum of {name}")).hint(AGAIN))?;
        let archive = self.get(net, &url, MAX_ARCHIVE, ARCHIVE_TIME, progress)?;
        let actual: String = Sha256::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
        if actual != expected {
            return Err(Error::new(format!(
                "{name} is damaged or not the published one: its SHA-256 is {actual} instead of {expected}; nothing \
                 was changed"
            ))
            .hint(AGAIN));
        }
        unpack(&archive).map_err(|why| Error::new(format!("{name} cannot be used: {why}")).hint(AGAIN))
    }

    fn text(&self, net: &Net, url: &str) -> Result<String> {
        let bytes = self.get(net, url, MAX_TEXT, Duration::from_secs(30), |_, _| {})?;
        String::from_utf8(bytes).map_err(|_| Error::new(format!("{url} is not text")).hint(AGAIN))
    }

    fn get(
        &self,
        net: &Net,
        url: &str,
        limit: u64,
        time: Duration,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Vec<u8>> {
        let failed = |why: &str| Error::new(format!("cannot download {url}: {why}")).hint(AGAIN);
        let host = self.endpoint.host();
        let reason = |e: &ureq::Error| match e {
            ureq::Error::TooManyRedirects | ureq::Error::RedirectFailed => {
                "it is redirected too often".to_owned()
            }
            ureq::Error::RequireHttpsOnly(_) => "it is redirected away from https".to_owned(),
            ureq::Error::Timeout(_) => format!("not done within {} s", time.as_secs()),
            e => NetError::of_ureq(e, host).to_string(),
        };
        let secure = self.base.starts_with("https:");
        let request = net.agent(host).get(url).config();
        let request = request
            .https_only(secure)
            .max_redirects(if secure { MAX_REDIRECTS } else { 0 })
            .max_redirects_will_error(secure)
            .timeout_global(Some(time))
            .build();
        let mut response = request.call().map_err(|e| failed(&reason(&e)))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(failed("there is no such file (404)")),
            status => return Err(failed(&format!("the answer is {status}"))),
        }
        let length = response.body().content_length().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let mut reader = response.body_mut().with_config().limit(limit).reader();
        let (mut bytes, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let n = match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) => {
                    let error = e.downcast::<ureq::Error>().unwrap_or_else(ureq::Error::Io);
                    return Err(failed(&reason(&error)));
                }
            };
            bytes.extend_from_slice(&chunk[..n]);
            progress(bytes.len(), length.max(bytes.len()));
        }
        Ok(bytes)
    }
}

/// Returns the checksum of the file `name` from the output of `sha256sum`.
fn checksum_of(text: &str, name: &str) -> Option<String> {
    let (sum, file) = text.lines().next()?.split_once(' ')?;
    let hex = sum.len() == 64 && sum.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (hex && file.trim_start_matches([' ', '*']) == name).then(|| sum.to_owned())
}

/// Returns the two programs of an archive, and ignores everything else in it.
fn unpack(archive: &[u8]) -> Result<Programs, String> {
    let mut tar = tar::Archive::new(GzDecoder::new(archive).take(MAX_UNPACKED));
    let (mut tool, mut shim) = (None, None);
    // Raw: else entries that only hold a long name for the next one are read into memory, whatever their size.
    for entry in tar.entries().map_err(|e| e.to_string())?.raw(true) {
        let mut entry = entry.map_err(|e| e.to_string())?;
        let program = match &*entry.path_bytes() {
            b"codex-pool" => &mut tool,
            b"codex" => &mut shim,
            _ => continue,
        };
        if !entry.header().entry_type().is_file() || program.is_some() {
            return Err("a program in it is not a file, or is there twice".to_owned());
        }
        if entry.size() > MAX_PROGRAM {
            return Err("a program in it is too large".to_owned());
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        if bytes.len() as u64 != entry.size() {
            return Err("a program in it is cut short".to_owned());
        }
        *program = Some(bytes);
    }
    match (tool, shim) {
        (Some(tool), Some(shim)) => Ok(Programs { tool, shim }),
        _ => Err("it does not contain both programs".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_built_in_or_named_and_never_guessed() {
        let base = |named, built| Source::of(named, built).map(|s| s.base).map_err(|e| e.to_string());
        assert_eq!(base(None, Some("a/b")).unwrap(), "https://github.com/a/b/releases");
        assert_eq!(base(Some("http://127.0.0.1:7/r/"), Some("a/b")).unwrap(), "http://127.0.0.1:7/r");
        let none = base(None, None).unwrap_err();
        assert!(none.contains("built from source") && none.contains("git pull && sh install.sh"), "{none}");
        for url in [
            "http://example.com/r",
            "http://127.0.0.1.example.com",
            "ftp://x/r",
            "https://me:pw@x/r",
            "x",
            "",
        ] {
            assert!(base(Some(url), Some("a/b")).unwrap_err().contains("CODEX_POOL_RELEASES"), "{url}");
        }
    }

    #[test]
    fn a_checksum_belongs_to_one_file() {
        let sum = "0123456789abcdef".repeat(4);
        for line in [format!("{sum}  a.tar.gz\n"), format!("{sum} *a.tar.gz")] {
            assert_eq!(checksum_of(&line, "a.tar.gz").as_deref(), Some(&*sum), "{line}");
        }
        let upper = sum.to_uppercase();
        for line in
            ["", "\n", &sum, &format!("{sum}  b.tar.gz"), &format!("{upper}  a.tar.gz"), "abc  a.tar.gz"]
        {
            assert_eq!(checksum_of(line, "a.tar.gz"), None, "{line}");
        }
    }

    #[test]
    fn an_archive_has_both_programs_once() {
        use testkit::releases::archive;
        let both =
            unpack(&archive(&[("x/codex", b"no"), ("codex-pool", b"tool"), ("codex", b"shim")])).unwrap();
        assert_eq!((both.tool.as_slice(), both.shim.as_slice()), (&b"tool"[..], &b"shim"[..]));
        assert!(unpack(&archive(&[("codex-pool", b"tool")])).is_err());
        assert!(unpack(&archive(&[("codex-pool", b"t"), ("codex", b"s"), ("codex", b"other")])).is_err());
        assert!(unpack(b"no archive").is_err());
        let mut cut = archive(&[("codex", b"shim"), ("codex-pool", &[7; 4000])]);
        cut.truncate(cut.len() - 30);
        assert!(unpack(&cut).is_err());
    }
}
