//! What a fleet costs one PostgreSQL: fills a database with the accounts of a pool, and lets many machines look at it as
//! runners do, each look on a connection of its own. Prints what docs/share.md says under "Scale".
//!
//! `cargo run -p codex-pool-share --example scale [ACCOUNTS]` starts a database; with a second argument, an address, it
//! uses that one. Times are of use only with `--release`.

#![expect(clippy::print_stdout, reason = "the numbers are its purpose")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use codex_pool_share::Seen;
use codex_pool_share::address::Address;
use codex_pool_share::keys::{MemberKeys, PoolId, PoolKey};
use codex_pool_share::login::{Age, Login};
use codex_pool_share::postgres::Postgres;
use codex_pool_share::protocol::Share;
use codex_pool_share::pull::pull_for_runner;
use codex_pool_share::usage::Polled;
use testkit::postgres::Server;

/// How many machines look at the same time.
const AT_ONCE: usize = 8;
/// For how long looks are counted.
const COUNTED: Duration = Duration::from_secs(10);

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn connect(url: &str, keys: &MemberKeys) -> Outcome<Postgres> {
    Ok(Postgres::new(Address::parse(url)?, keys.runner().pool)?)
}

/// A login as large as Codex's.
fn login(n: usize, issued_at: i64) -> Login {
    let document = format!("{n}{}", "x".repeat(5_000));
    Login {
        account: format!("account{n:03}"),
        label: format!("label {n}"),
        age: Age { issued_at: Some(issued_at), expires_at: Some(issued_at + 10), renewed_at: None },
        token: issued_at.to_string(),
        access: Some(document.clone().into()),
        document: document.into(),
    }
}

/// Lets machines look for a while, each as one that has seen `seen`. Returns how many looks there were a second, and how
/// long one took on average.
fn looks(url: &str, keys: &MemberKeys, seen: &Seen) -> Outcome<(f64, Duration)> {
    let (count, begun) = (AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        let look = || -> Result<(), String> {
            while begun.elapsed() < COUNTED {
                let mut store = connect(url, keys).map_err(|e| e.to_string())?;
                pull_for_runner(keys.runner(), &mut store, &mut seen.clone()).map_err(|e| e.to_string())?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        let machines: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(look)).collect();
        machines.into_iter().try_for_each(|machine| machine.join().map_err(|_| "a machine panicked")?)
    })?;
    let count = count.into_inner().max(1);
    let each = begun.elapsed().as_secs_f64() * AT_ONCE as f64 / count as f64;
    Ok((count as f64 / begun.elapsed().as_secs_f64(), Duration::from_secs_f64(each)))
}

/// Lets one machine ask the service for every account, and tell the answers.
fn tell_usage(share: &mut Share<Postgres>, accounts: usize) -> Outcome<()> {
    for n in 0..accounts {
        if let Polled::Ask(poll) = share.poll(&format!("account{n:03}"))? {
            share.tell(&poll, &"x".repeat(600))?;
        }
    }
    Ok(())
}

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let accounts: usize = args.next().map_or(Ok(200), |count| count.parse())?;
    let server = match args.next() {
        Some(url) => Err(url),
        None => Ok(Server::start().ok_or("PostgreSQL is not installed")?),
    };
    let url = server.as_ref().map_or_else(String::clone, Server::url);
    let keys = MemberKeys::new(PoolId::random(), 1, PoolKey::random());
    let mut member = Share::new(keys.clone(), "member", connect(&url, &keys)?, Seen::default());
    member.store.create_tables()?;
    let begun = Instant::now();
    for n in 0..accounts {
        member.push(&login(n, 1))?;
    }
    println!("{accounts} accounts written in {:.1} s", begun.elapsed().as_secs_f64());
    let mut seen = Seen::default();
    pull_for_runner(keys.runner(), &mut connect(&url, &keys)?, &mut seen)?;
    let before_usage = seen.clone();
    tell_usage(&mut member, accounts)?;
    pull_for_runner(keys.runner(), &mut connect(&url, &keys)?, &mut seen)?;
    let (rate, each) = looks(&url, &keys, &seen)?;
    println!("looks without a change: {rate:.0} a second, {:.1} ms each", each.as_secs_f64() * 1000.0);
    let (rate, each) = looks(&url, &keys, &before_usage)?;
    println!("looks with the usage of all: {rate:.0} a second, {:.1} ms each", each.as_secs_f64() * 1000.0);
    let (rate, each) = looks(&url, &keys, &Seen::default())?;
    println!("first looks, with all logins: {rate:.0} a second, {:.1} ms each", each.as_secs_f64() * 1000.0);
    if let Ok(server) = &server {
        let size = server.sql("select pg_total_relation_size('codex_pool_records')");
        let rows = server.sql("select count(*) from codex_pool_records");
        println!("{} rows, {} bytes on the disk", rows.trim(), size.trim());
    }
    Ok(())
}
