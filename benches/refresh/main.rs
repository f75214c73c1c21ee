//! What asking for usage costs, against services that answer after 100 ms: 50 accounts at once, in time,
//! requests in flight and memory, over http and https; and how much sooner Codex starts than in a launch that
//! asks for all usage first. `cargo bench --bench refresh`; `-- --json` for a form that can be compared.

#![expect(clippy::print_stdout, reason = "a benchmark reports")]

mod https;

use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::backend::{Route, Usage};
use testkit::{Cmd, Sandbox};

const LATENCY: Duration = Duration::from_millis(100);
const ACCOUNTS: usize = 50;
const REFRESHES: usize = 10;
const LAUNCHES: usize = 20;

/// Time limit of a refresh, in flight at once, and memory in KB.
const LIMITS: (Duration, usize, i64) = (Duration::from_millis(2_500), 4, 20_000);
/// How many times sooner Codex must start.
const SOONER: f64 = 50.0;

/// What was measured, and which limits it misses.
type Judged = (Value, Vec<String>);

fn main() {
    let json = std::env::args().any(|arg| arg == "--json");
    let parts: [fn() -> Judged; 3] = [refresh_http, refresh_https, launches];
    let mut results = Vec::new();
    let mut missed = Vec::new();
    for part in parts {
        let (result, misses) = part();
        if !json {
            let fields = result.as_object().expect("an object").iter();
            let text: Vec<String> = fields.map(|(name, value)| format!("{name} {value}")).collect();
            println!("{}", text.join(", ").replace('"', ""));
        }
        results.push(result);
        missed.extend(misses);
    }
    if json {
        println!("{}", json!({ "bench": "refresh", "latency_ms": 100, "results": results }));
    }
    assert!(missed.is_empty(), "{missed:?}");
}

/// 50 accounts of the stand-in service.
fn refresh_http() -> Judged {
    let sandbox = pool_of(ACCOUNTS);
    sandbox.backend().set_latency(Route::Usage, LATENCY);
    let (times, memory) = refreshes(&sandbox, &[]);
    let report = sandbox.backend().report();
    assert_eq!(report.usage.len(), ACCOUNTS * REFRESHES, "each is asked once");
    judge("50 accounts, http", &times, report.max_usage_in_flight, memory)
}

/// The same over TLS, with the system's certificates and one more.
fn refresh_https() -> Judged {
    let sandbox = pool_of(ACCOUNTS);
    let service = https::start(LATENCY);
    sandbox.edit_config(|config| {
        config.insert("chatgpt_base_url".into(), format!("https://{}/backend-api", service.address).into());
    });
    let ca = sandbox.root().join("ca.pem");
    std::fs::write(&ca, &service.ca).expect("write the CA");
    let (times, memory) = refreshes(&sandbox, &[("CODEX_CA_CERTIFICATE", &ca.to_string_lossy())]);
    assert_eq!(service.count(), ACCOUNTS * REFRESHES, "each is asked once");
    judge("50 accounts, https", &times, service.most_in_flight(), memory)
}

fn judge(name: &str, times: &[Duration], in_flight: usize, memory: i64) -> Judged {
    let median = times[times.len() / 2];
    let misses = [
        (median >= LIMITS.0).then(|| format!("{name}: {median:?}")),
        (in_flight > LIMITS.1).then(|| format!("{name}: {in_flight} at once")),
        (memory >= LIMITS.2).then(|| format!("{name}: {memory} KB")),
    ];
    let result = json!({ "what": name, "min_ms": ms(times[0]), "median_ms": ms(median),
        "max_ms": ms(times[times.len() - 1]), "in_flight": in_flight, "peak_kb": memory });
    (result, misses.into_iter().flatten().collect())
}

/// Refreshes everything some times: sorted times, and the peak memory in KB.
fn refreshes(sandbox: &Sandbox, env: &[(&str, &str)]) -> (Vec<Duration>, i64) {
    let command = |program: &str| {
        let mut cmd = sandbox.cmd(program);
        for (name, value) in env {
            cmd = cmd.env(name, value);
        }
        cmd
    };
    let mut times: Vec<Duration> =
        (0..REFRESHES - 1).map(|_| fine(command("codex-pool").args(["refresh", "--json"])).1).collect();
    times.sort_unstable();
    let peak = peak_of(command("codex-pool").args(["refresh", "--json"]));
    (times, peak)
}

/// Runs a command to its end and gives its peak memory in KB, read while it runs.
fn peak_of(cmd: Cmd) -> i64 {
    let mut running = cmd.spawn();
    let status = format!("/proc/{}/status", running.pid());
    let mut peak = 0;
    while running.is_running() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let now = line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        peak = peak.max(now);
        std::thread::sleep(Duration::from_millis(1));
    }
    running.wait().ok();
    peak
}

fn fine(cmd: Cmd) -> (Value, Duration) {
    let output = cmd.run().ok();
    let took = output.took;
    let answer = output.json();
    let all = answer["accounts"].as_array().expect("accounts");
    assert!(all.iter().all(|a| a["error"].is_null() && a["usage"].is_object()), "{answer}");
    (answer, took)
}

/// Launches with five accounts: through the shim, whose data is old enough to be refreshed in the background
/// each time, and through a script that refreshes first.
fn launches() -> Judged {
    let sandbox = pool_of(5);
    sandbox.backend().set_latency(Route::Usage, LATENCY);
    let (_, _) = fine(sandbox.pool(&["refresh", "--json"]));
    symlink(sandbox.home().join(".local/bin/codex-pool"), sandbox.pool_home().join("bin/codex-pool"))
        .expect("link the admin command");
    // In Codex's place something that ends at once.
    let codex = |cmd: Cmd| cmd.env("CODEX_POOL_CODEX", "/bin/true");
    let mut shim = Vec::new();
    let mut asking = Vec::new();
    for _ in 0..LAUNCHES {
        let before = sandbox.backend().report().usage.len();
        make_stale(&sandbox);
        shim.push(time(codex(sandbox.codex(&["exec", "hi"]))));
        // The refresh that it began goes on beside it; its end is awaited so that the next round is alone.
        sandbox
            .backend()
            .wait_for("the background refresh", Duration::from_secs(10), |r| r.usage.len() >= before + 5);
        testkit::wait_until("its end", Duration::from_secs(10), || sandbox.processes().is_empty());
        let script = "codex-pool refresh --json > /dev/null && exec codex exec hi";
        asking.push(time(codex(sandbox.cmd("/bin/sh").args(["-c", script]))));
    }
    assert!(sandbox.backend().report().usage.len() >= LAUNCHES * 10, "both asked each time");
    shim.sort_unstable();
    asking.sort_unstable();
    let at = |times: &[Duration], share: usize| ms(times[(times.len() - 1) * share / 100]);
    let sooner = asking[LAUNCHES / 2].as_secs_f64() / shim[LAUNCHES / 2].as_secs_f64();
    let result = json!({ "what": "launch, 5 accounts",
        "shim_p10_ms": at(&shim, 10), "shim_median_ms": at(&shim, 50), "shim_p90_ms": at(&shim, 90),
        "asking_first_median_ms": at(&asking, 50), "times_sooner": sooner.round() });
    let miss = (sooner < SOONER).then(|| format!("only {sooner:.0} times sooner"));
    (result, miss.into_iter().collect())
}

/// From the start to the end of a command that prints to nobody: the end of what stands for Codex.
fn time(cmd: Cmd) -> Duration {
    let mut command = cmd.into_inner();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status().expect("it starts");
    let took = start.elapsed();
    assert!(status.success(), "{status}");
    took
}

/// Makes what is known old enough for a refresh in the background, but not so old that a launch waits.
fn make_stale(sandbox: &Sandbox) {
    let path = sandbox.pool_home().join("usage.json");
    let text = std::fs::read_to_string(&path).expect("a cache");
    let mut cache: Value = serde_json::from_str(&text).expect("JSON");
    for entry in cache["accounts"].as_object_mut().expect("accounts").values_mut() {
        for time in ["/usage/fetched_at", "/attempt/at"] {
            if let Some(at) = entry.pointer_mut(time) {
                *at = (at.as_i64().expect("a time") - 400).into();
            }
        }
    }
    sandbox.write_private(&path, &cache.to_string());
}

fn pool_of(accounts: usize) -> Sandbox {
    let sandbox = Sandbox::new();
    let config = sandbox.pool_home().join("config.toml");
    sandbox.write_private(&config, "min_poll_interval = \"0s\"\n");
    let list: Vec<Value> = (0..accounts)
        .map(|n| {
            let name = format!("user{n}");
            sandbox.backend().add(&name);
            sandbox.backend().set_usage(&name, Usage::percent(n as f64, 10.0));
            let auth: Value = serde_json::from_str(&sandbox.backend().auth_json(&name)).expect("JSON");
            json!({ "id": format!("old-{n}"), "label": name, "authJson": auth })
        })
        .collect();
    let store = sandbox.root().join("store.json");
    sandbox.write_private(&store, &json!({ "version": 1, "accounts": list }).to_string());
    sandbox.pool(&["import", &store.to_string_lossy()]).run().ok();
    sandbox
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}
