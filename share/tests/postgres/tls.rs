//! TLS to the database: the certificate must be of a known authority and name the host.

use codex_pool_share::store::StoreError;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::POOL;
use testkit::postgres::{PASSWORD, Server};

use super::server::{start, tables};

/// An authority, and a certificate of it for this name.
fn certificate(name: &str) -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&authority_key).expect("an authority").pem();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    let signed = params.signed_by(&key, &issuer).expect("a certificate");
    (authority, signed.pem(), key.serialize_pem())
}

#[test]
fn certificate_must_be_known_and_name_the_host() {
    let (authority, public, private) = certificate("127.0.0.1");
    let Some(server) = Server::start_with(Some((&public, &private))) else { return };
    let file = server.dir().join("authority");
    std::fs::write(&file, authority).expect("write it");
    let url = |host: &str, query: &str| {
        let at = format!("@{host}:{}/postgres?{query}", server.port());
        format!("postgres://owner:{PASSWORD}{at}")
    };
    let trusting = format!("sslmode=verify-full&sslrootcert={}", file.display());
    let open = |url: &str| tables(url, POOL);
    let store = open(&url("127.0.0.1", &trusting)).expect("the certificate is good");
    let encrypted = "select count(*) from pg_stat_ssl where ssl and pid <> pg_backend_pid()";
    assert_eq!(server.sql(encrypted).trim(), "1");
    drop(store);
    let fails = |url: String, why: &str| {
        let error = open(&url).expect_err(&url);
        assert!(matches!(&error, StoreError::Down(text) if text.contains(why)), "{error}");
        assert!(!error.to_string().contains(PASSWORD), "{error}");
    };
    fails(url("localhost", &trusting), "certificate");
    fails(url("127.0.0.1", "sslmode=verify-full"), "certificate");
    let (other, ..) = certificate("127.0.0.1");
    std::fs::write(&file, other).expect("write it");
    fails(url("127.0.0.1", &trusting), "certificate");
    for (text, why) in [("", "there are none"), ("-----BEGIN CERTIFICATE-----\nAAAA", "cannot read")] {
        std::fs::write(&file, text).expect("write it");
        let error = open(&url("127.0.0.1", &trusting)).expect_err(why);
        assert!(
            matches!(&error, StoreError::Refused(_, text) if text.contains("cannot read the certificates")),
            "{error}"
        );
    }
}

#[test]
fn database_without_tls_gets_no_password_where_tls_is_asked_for() {
    let Some(server) = start() else { return };
    let url = format!("{}?sslmode=require", server.url());
    let error = tables(&url, POOL).expect_err("no TLS");
    assert!(matches!(&error, StoreError::Down(text) if text.contains("TLS")), "{error}");
}
