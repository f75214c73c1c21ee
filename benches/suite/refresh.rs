//! What a refresh costs against services that answer after 100 ms: 50 accounts, in time, requests in flight and memory,
//! over http and https. Also how much sooner Codex starts than in a launch that refreshes all usage first.

use std::ops::Range;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testkit::backend::{Route, Usage};
use testkit::figures::{Figure, Limit, median};
use testkit::{Cmd, World};

use crate::https;
use crate::programs::{Programs, time};

const LATENCY: Duration = Duration::from_millis(100);
const ACCOUNTS: usize = 50;
const REFRESHES: usize = 10;
const LAUNCHES: usize = 20;
/// The launches of a block, whose ratio counts for the spread.
const BLOCK: usize = 4;

/// The limits of a refresh: milliseconds, requests in flight, MB.
const TIME: f64 = 2_500.0;
const IN_FLIGHT: f64 = 4.0;
const MEMORY: f64 = 20.0;
/// How many times as soon Codex must start.
const SOONER: f64 = 50.0;

pub(crate) fn figures(programs: &Programs) -> Vec<Figure> {
    let mut figures = over_http(programs);
    figures.extend(over_https(programs));
    figures.extend(launches());
    figures
}

/// 50 accounts of the stand-in service.
fn over_http(programs: &Programs) -> Vec<Figure> {
    let world = pool_of(ACCOUNTS);
    world.backend().set_latency(Route::Usage, LATENCY);
    let (times, peaks) = refreshes(programs, || world.pool(&["refresh", "--json"]));
    let report = world.backend().report();
    assert_eq!(report.usage.len(), ACCOUNTS * REFRESHES, "each is asked once");
    of_service("http", &times, &peaks, report.max_usage_in_flight)
}

/// Returns the same over TLS, with the system's certificates and one more.
fn over_https(programs: &Programs) -> Vec<Figure> {
    let world = pool_of(ACCOUNTS);
    let service = https::start(LATENCY);
    world.edit_config(|config| {
        config.insert("chatgpt_base_url".into(), format!("https://{}/backend-api", service.address).into());
    });
    let ca = world.root().join("ca.pem");
    std::fs::write(&ca, &service.ca).expect("write the CA");
    let command = || world.pool(&["refresh", "--json"]).env("CODEX_CA_CERTIFICATE", &ca);
    let (times, peaks) = refreshes(programs, command);
    assert_eq!(service.count(), ACCOUNTS * REFRESHES, "each is asked once");
    of_service("https", &times, &peaks, service.most_in_flight())
}

fn of_service(scheme: &str, times: &[f64], peaks: &[f64], in_flight: usize) -> Vec<Figure> {
    let name = |what: &str| format!("refresh: {scheme}, {what}");
    vec![
        Figure::of(&name("50 accounts"), times, "ms").limit(Limit::AtMost(TIME)),
        Figure::of(&name("at once"), &[in_flight as f64], "requests").limit(Limit::AtMost(IN_FLIGHT)),
        Figure::of(&name("memory"), peaks, "MB").limit(Limit::AtMost(MEMORY)),
    ]
}

/// Refreshes all accounts some times. Returns milliseconds and peak memory in MB of each refresh.
fn refreshes(programs: &Programs, command: impl Fn() -> Cmd) -> (Vec<f64>, Vec<f64>) {
    let one = || {
        let (took, peak, output) = programs.peak(&command().into_inner());
        check(&serde_json::from_slice(&output).expect("JSON"));
        (took.as_secs_f64() * 1e3, peak)
    };
    (0..REFRESHES).map(|_| one()).unzip()
}

/// Requires that the usage of every account is there.
fn check(answer: &Value) {
    let all = answer["accounts"].as_array().expect("accounts");
    assert!(all.iter().all(|a| a["error"].is_null() && a["usage"].is_object()), "{answer}");
}

/// Launches with five accounts: through the shim, with usage so old that each launch refreshes it in the background,
/// and through a script that refreshes first.
fn launches() -> Vec<Figure> {
    let world = pool_of(5);
    world.backend().set_latency(Route::Usage, LATENCY);
    check(&world.pool(&["refresh", "--json"]).run().ok().json());
    world.link_admin();
    // A program that ends at once is in Codex's place.
    let codex = |cmd: Cmd| -> Command { cmd.env("CODEX_POOL_CODEX", "/bin/true").into_inner() };
    let milliseconds = |cmd: Cmd| time(&mut codex(cmd)).as_secs_f64() * 1e3;
    let mut shim = Vec::new();
    let mut asking = Vec::new();
    for _ in 0..LAUNCHES {
        let before = world.backend().report().usage.len();
        // The usage is old enough for a refresh in the background, and not so old that a launch waits.
        world.age_usage(400);
        shim.push(milliseconds(world.codex(&["exec", "hi"])));
        // The refresh that it began still runs. The next round must not run beside it.
        world
            .backend()
            .wait_for("the background refresh", Duration::from_secs(10), |r| r.usage.len() >= before + 5);
        testkit::wait_until("its end", Duration::from_secs(10), || world.processes().is_empty());
        let script = "codex-pool refresh --json > /dev/null && exec codex exec hi";
        asking.push(milliseconds(world.cmd("/bin/sh").args(["-c", script])));
    }
    assert!(world.backend().report().usage.len() >= LAUNCHES * 10, "both asked each time");
    let sooner = |runs: Range<usize>| median(&asking[runs.clone()]) / median(&shim[runs]);
    vec![
        Figure::of("refresh: launch beside one", &shim, "ms"),
        Figure::of("refresh: launch after one", &asking, "ms"),
        Figure::of_blocks("refresh: sooner beside one", LAUNCHES, BLOCK, sooner, "times")
            .limit(Limit::AtLeast(SOONER)),
    ]
}

fn pool_of(accounts: usize) -> World {
    let world = World::new(&[]);
    world.settings("min_poll_interval = \"0s\"\n");
    let names: Vec<String> = (0..accounts).map(|number| format!("user{number}")).collect();
    let store = world.root().join("store.json");
    world.write_private(&store, &world.backend().store(&names));
    for (number, name) in names.iter().enumerate() {
        world.backend().set_usage(name, Usage::percent(number as f64, 10.0));
    }
    world.pool(&["import", &store.to_string_lossy()]).run().ok();
    world
}
