//! Whom a connection goes through and whom it trusts: the proxy variables, and the system's
//! certificates together with those of `CODEX_CA_CERTIFICATE` or `SSL_CERT_FILE`, as Codex does it.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use codex_pool_core::env::Env;
use codex_pool_core::{Error, Result, files};
use ureq::Proxy;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Files with more than this many bytes are no bundle of certificates.
const MAX_BUNDLE: u64 = 16 << 20;

/// TLS over the system's trust store, and over the user's own certificates where one of the
/// variables names a file of them. The first variable that is set wins, as in Codex.
pub(super) fn tls_config(env: &Env) -> Result<TlsConfig> {
    let named = ["CODEX_CA_CERTIFICATE", "SSL_CERT_FILE"].iter().find_map(|v| Some((*v, env.get(v)?)));
    let Some((variable, file)) = named else {
        return Ok(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build());
    };
    let mut roots = bundle(variable, Path::new(file))?;
    let system = rustls_native_certs::load_native_certs().certs;
    roots.extend(system.iter().map(|cert| Certificate::from_der(cert).to_owned()));
    Ok(TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots))).build())
}

/// The certificates of a PEM file.
fn bundle(variable: &str, file: &Path) -> Result<Vec<Certificate<'static>>> {
    let hint = format!("make {variable} name a PEM file with certificates, or unset it");
    let bytes = match files::read_small(file, MAX_BUNDLE) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            return Err(
                Error::new(format!("{variable} names {}, which is not there", file.display())).hint(hint)
            );
        }
        Err(e) => return Err(Error::io(&format!("read ({variable})"), file, &e).hint(hint)),
    };
    // OpenSSL's own label; what it appends to the certificate is cut off below.
    let text = String::from_utf8_lossy(&bytes).replace("TRUSTED CERTIFICATE", "CERTIFICATE");
    let certificates: Vec<_> = parse_pem(text.as_bytes())
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(cert)) => Some(Certificate::from_der(one_element(cert.der())).to_owned()),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        let message = format!("{} (from {variable}) holds no certificate", file.display());
        return Err(Error::new(message).hint(hint));
    }
    Ok(certificates)
}

/// The first DER element of `der`, without what follows it.
fn one_element(der: &[u8]) -> &[u8] {
    let length = match *der {
        [_, short @ 0..=0x7f, ..] => Some(2 + usize::from(short)),
        [_, long @ 0x81..=0x84, ref rest @ ..] => {
            let n = usize::from(long & 0x7f);
            rest.get(..n).map(|digits| 2 + n + digits.iter().fold(0, |sum, d| sum << 8 | usize::from(*d)))
        }
        _ => None,
    };
    length.and_then(|l| der.get(..l)).unwrap_or(der)
}

/// The proxy for https, and the hosts that are reached without it.
///
/// # Errors
/// If the variable does not hold an address: going round a proxy that the user asked for would be wrong.
pub(super) fn proxy(env: &Env) -> Result<Option<(Proxy, Bypass)>> {
    let named = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
        .iter()
        .find_map(|v| Some((*v, env.text(v)?.trim())))
        .filter(|(_, address)| !address.is_empty());
    let Some((variable, address)) = named else { return Ok(None) };
    let proxy = Proxy::new(address).map_err(|_| {
        Error::new(format!("{variable} is not the address of a proxy"))
            .hint("use a form such as http://host:port or socks5h://host:port, or unset it")
    })?;
    let bypass = env.text("no_proxy").or_else(|| env.text("NO_PROXY")).unwrap_or("");
    Ok(Some((proxy, Bypass::parse(bypass))))
}

/// `NO_PROXY`: hosts that are reached directly.
#[derive(Debug)]
pub(super) struct Bypass(Vec<Entry>);

#[derive(Debug)]
enum Entry {
    All,
    /// A name, for itself and all below it; lower case, without a leading dot.
    Name(String),
    /// An address with the number of leading bits that must agree.
    Net(IpAddr, u32),
}

impl Bypass {
    /// Understands a comma-separated list as curl and Codex do.
    fn parse(list: &str) -> Bypass {
        let entry = |item: &str| {
            let item = item.trim();
            if item == "*" {
                return Some(Entry::All);
            }
            let (address, bits) = item.split_once('/').unwrap_or((item, ""));
            if let Ok(ip) = address.trim_matches(['[', ']']).parse::<IpAddr>() {
                let all = if ip.is_ipv4() { 32 } else { 128 };
                let bits = if bits.is_empty() { all } else { bits.parse().ok()? };
                return (bits <= all).then_some(Entry::Net(ip, bits));
            }
            let name = item.trim_start_matches('*').trim_start_matches('.').to_lowercase();
            (!name.is_empty()).then_some(Entry::Name(name))
        };
        Bypass(list.split(',').filter_map(entry).collect())
    }

    /// Whether `host` is reached directly.
    pub(super) fn matches(&self, host: &str) -> bool {
        let host = host.trim_matches(['[', ']']).to_lowercase();
        let ip = host.parse::<IpAddr>().ok();
        self.0.iter().any(|entry| match entry {
            Entry::All => true,
            Entry::Name(name) => {
                host.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            Entry::Net(net, bits) => ip.is_some_and(|ip| same_prefix(*net, ip, *bits)),
        })
    }
}

fn same_prefix(a: IpAddr, b: IpAddr, bits: u32) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits,
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(vars: &[(&str, &str)]) -> Env {
        Env::of(vars, Path::new("/"), 0)
    }

    #[test]
    fn the_proxy_is_that_of_https() {
        let (proxy, _) = proxy(&env(&[
            ("HTTP_PROXY", "http://wrong:1"),
            ("ALL_PROXY", "http://last:2"),
            ("HTTPS_PROXY", "http://right:3"),
        ]))
        .unwrap()
        .unwrap();
        assert_eq!((proxy.host(), proxy.port()), ("right", 3));
        assert!(super::proxy(&env(&[("HTTP_PROXY", "http://wrong:1")])).unwrap().is_none());
    }

    #[test]
    fn a_proxy_that_is_no_address_is_not_gone_round() {
        let e = proxy(&env(&[("HTTPS_PROXY", "nonsense://me:pw@x")])).err().unwrap();
        assert!(!e.to_string().contains("pw"), "{e}");
    }

    #[test]
    fn no_proxy_names_hosts_domains_and_networks() {
        let bypass = Bypass::parse("example.com, .corp.test,10.0.0.0/8,[::1]");
        for host in ["example.com", "A.Example.com", "x.corp.test", "10.1.2.3", "[::1]"] {
            assert!(bypass.matches(host), "{host}");
        }
        for host in ["notexample.com", "chatgpt.com", "11.1.2.3", "::2"] {
            assert!(!bypass.matches(host), "{host}");
        }
        assert!(Bypass::parse("*").matches("anything"));
        assert!(!Bypass::parse("").matches("anything"));
    }

    #[test]
    fn a_bad_bundle_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let named = |file: &Path| tls_config(&env(&[("CODEX_CA_CERTIFICATE", file.to_str().unwrap())]));
        assert!(named(&file).err().unwrap().to_string().contains("is not there"));
        std::fs::write(&file, "-----BEGIN NOTHING-----").unwrap();
        assert!(named(&file).err().unwrap().to_string().contains("holds no certificate"));
    }

    #[test]
    fn what_openssl_appends_to_a_certificate_is_cut_off() {
        assert_eq!(one_element(&[0x30, 2, 1, 2, 9, 9]), [0x30, 2, 1, 2]);
        assert_eq!(one_element(&[0x30, 0x82, 0, 1, 7, 9]), [0x30, 0x82, 0, 1, 7]);
        assert_eq!(one_element(&[0x30, 0x82, 9, 9, 7]), [0x30, 0x82, 9, 9, 7]);
    }
}
