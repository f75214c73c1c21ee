//! The certificates that connections trust: those of the system, and those of `CODEX_CA_CERTIFICATE` or
//! `SSL_CERT_FILE`, as Codex does it.

use std::path::Path;
use std::sync::Arc;

use codex_pool_core::env::Env;
use codex_pool_core::{Error, Result, files};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// A bundle of certificates is smaller than this, bytes.
const MAX_BUNDLE: u64 = 16 << 20;

/// Returns the TLS configuration. If one of the variables names a file, its certificates are trusted beside those of
/// the system. The first variable that is set wins, as in Codex.
///
/// # Errors
/// The file cannot be used.
pub(super) fn config(env: &Env) -> Result<TlsConfig> {
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
    // OpenSSL has a label of its own, and appends data to the certificate, which `one_element` cuts off.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn env(vars: &[(&str, &str)]) -> Env {
        Env::of(vars, Path::new("/"), 0)
    }

    #[test]
    fn a_bundle_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let named = |file: &Path| config(&env(&[("CODEX_CA_CERTIFICATE", file.to_str().unwrap())]));
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
