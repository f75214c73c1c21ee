//! The proxy for https, and the hosts that are reached without it (`NO_PROXY`). ureq does both. This file reads the
//! variables and writes their entries in ureq's form.

use std::net::{IpAddr, Ipv4Addr};

use codex_pool_core::env::Env;
use codex_pool_core::{Error, Result};
use ureq::Proxy;

/// Reads the proxy variables. `None`: there is no proxy.
///
/// # Errors
/// A variable does not hold an address. Going round a proxy that the user wants would be wrong.
pub(super) fn proxy(env: &Env) -> Result<Option<Proxy>> {
    let named = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
        .iter()
        .find_map(|v| Some((*v, env.text(v)?.trim())))
        .filter(|(_, address)| !address.is_empty());
    let Some((variable, address)) = named else { return Ok(None) };
    let exceptions = env.text("no_proxy").or_else(|| env.text("NO_PROXY")).unwrap_or("");
    build(address, exceptions).map(Some).map_err(|_| {
        Error::new(format!("{variable} is not the address of a proxy"))
            .hint("use a form such as http://host:port or socks5h://host:port, or unset it")
    })
}

fn build(address: &str, exceptions: &str) -> Result<Proxy, ureq::Error> {
    // Only a builder takes exceptions, and only this takes an address.
    let proxy = Proxy::new(address)?;
    let mut builder = Proxy::builder(proxy.protocol())
        .host(proxy.host())
        .port(proxy.port())
        .resolve_target(proxy.resolve_target());
    if let Some(username) = proxy.username() {
        builder = builder.username(username);
    }
    if let Some(password) = proxy.password() {
        builder = builder.password(password);
    }
    for expression in exceptions.split(',').flat_map(expressions) {
        builder = builder.no_proxy(&expression);
    }
    builder.build()
}

/// Returns an entry of `NO_PROXY` in ureq's form. As in curl and Codex, a name stands for all names below it, too, and
/// an IPv4 network for its addresses.
fn expressions(entry: &str) -> Vec<String> {
    let entry = entry.trim();
    if entry == "*" {
        return vec!["*".to_owned()];
    }
    if let Some((address, bits)) = entry.split_once('/') {
        let network = address.parse().ok().zip(bits.parse().ok());
        return network.map_or_else(Vec::new, |(address, bits)| network_expressions(address, bits));
    }
    match entry.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => return vec![address.to_string()],
        // As the host of a URL.
        Ok(IpAddr::V6(address)) => return vec![format!("[{address}]")],
        Err(_) => {}
    }
    let name = entry.trim_start_matches('*').trim_start_matches('.');
    if name.is_empty() { Vec::new() } else { vec![name.to_owned(), format!(".{name}")] }
}

/// Returns the addresses of a network with this many fixed bits, as prefixes. No bits, or too many, are no network.
fn network_expressions(address: Ipv4Addr, bits: u32) -> Vec<String> {
    let octets = address.octets();
    let (whole, rest) = ((bits / 8) as usize, bits % 8);
    let fixed: String = octets.iter().take(whole).map(|octet| format!("{octet}.")).collect();
    match (whole, rest) {
        (0, 0) => Vec::new(),
        (1..4, 0) => vec![format!("{fixed}*")],
        (4, 0) => vec![address.to_string()],
        // The octet that is fixed in part has several values.
        (0..4, _) => {
            let free = u8::MAX >> rest;
            let values = octets[whole] & !free..=octets[whole] | free;
            values.map(|octet| format!("{fixed}{octet}{}", if whole == 3 { "" } else { ".*" })).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn env(vars: &[(&str, &str)]) -> Env {
        Env::of(vars, Path::new("/"), 0)
    }

    #[test]
    fn the_proxy_is_that_of_https() {
        let proxy = proxy(&env(&[
            ("HTTP_PROXY", "http://wrong:1"),
            ("ALL_PROXY", "http://last:2"),
            ("HTTPS_PROXY", "http://me:p%40w@right:3"),
        ]))
        .unwrap()
        .unwrap();
        assert_eq!((proxy.host(), proxy.port()), ("right", 3));
        assert_eq!((proxy.username(), proxy.password()), (Some("me"), Some("p@w")));
        assert!(super::proxy(&env(&[("HTTP_PROXY", "http://wrong:1")])).unwrap().is_none());
    }

    #[test]
    fn each_kind_of_proxy_stays_what_it_is() {
        for address in ["http://x:1", "https://x:1", "socks4://x:1", "socks5://x:1", "socks5h://x:1"] {
            let (plain, ours) = (Proxy::new(address).unwrap(), build(address, "").unwrap());
            assert_eq!(ours.protocol(), plain.protocol(), "{address}");
            assert_eq!(ours.resolve_target(), plain.resolve_target(), "{address}");
        }
    }

    #[test]
    fn a_proxy_that_is_no_address_is_not_gone_round() {
        let e = proxy(&env(&[("HTTPS_PROXY", "nonsense://me:pw@x")])).err().unwrap();
        assert!(!e.to_string().contains("pw"), "{e}");
    }

    #[test]
    fn no_proxy_names_hosts_domains_and_networks() {
        let direct = |list: &str, host: &str| {
            build("http://proxy:1", list).unwrap().is_no_proxy(&format!("https://{host}/x").parse().unwrap())
        };
        let list = "example.com, .corp.test,10.0.0.0/8,172.16.0.0/12,192.168.7.128/25,[::1]";
        for host in [
            "example.com",
            "A.Example.com",
            "x.corp.test",
            "10.1.2.3",
            "172.31.9.9",
            "192.168.7.200",
            "[::1]",
        ] {
            assert!(direct(list, host), "{host}");
        }
        for host in ["notexample.com", "chatgpt.com", "11.1.2.3", "172.32.9.9", "192.168.7.127", "[::2]"] {
            assert!(!direct(list, host), "{host}");
        }
        assert!(direct("*", "anything"));
        assert!(!direct("", "anything"));
        for nonsense in ["10.0.0.0/33", "0.0.0.0/0", "x/8", "10.0.0.0/x", ".", "*."] {
            assert!(!direct(nonsense, "10.1.2.3"), "{nonsense}");
        }
    }
}
