//! What a launch costs: the shim's added time over running the target directly, as a multiple of what
//! a static C program adds that only execs. All in one run, interleaved, medians. Also the shim's size and
//! peak memory. `cargo bench --bench launch`; `-- --json` for a form that can be compared between commits.

#![expect(clippy::print_stdout, reason = "a benchmark reports")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::backend::Backend;

/// Counted runs of each kind, after warming up.
const RUNS: usize = 400;
const WARM_UP: usize = 30;

/// One way to start the target.
struct Kind {
    name: &'static str,
    /// The ratio that this should stay below; `None` for the two that the ratio is made of.
    limit: Option<f64>,
    command: Box<dyn FnMut() -> Command>,
    times: Vec<Duration>,
}

fn main() {
    let json = std::env::args().any(|arg| arg == "--json");
    let dir =
        tempfile::Builder::new().prefix("bench-").tempdir_in(testkit::bins::target_dir()).expect("a folder");
    let target = compile(dir.path(), "target.c", None);
    let exec = compile(dir.path(), "exec.c", Some(&target));
    let shim = static_shim();

    let ten = Pool::new(&dir.path().join("ten"), 10, &shim, &target);
    let thousand = Pool::new(&dir.path().join("thousand"), 1000, &shim, &target);
    let busy = Pool::new(&dir.path().join("busy"), 10, &shim, &target);
    // Somebody sits in the shared seat, so that another account gets its home.
    let mut sitting = busy.sleeper();

    let mut kinds = vec![
        kind("direct", None, {
            let target = target.clone();
            move || Command::new(&target)
        }),
        kind("exec", None, move || Command::new(&exec)),
        kind("pass-through", Some(1.3), {
            let pool = ten.clone();
            move || pool.launch(&["--version"])
        }),
        kind("pick, 10 accounts", Some(1.6), {
            let pool = ten.clone();
            move || pool.launch(&["exec", "hi"])
        }),
        kind("pick and switch", Some(2.2), {
            let (pool, mut turn) = (Pool::new(&dir.path().join("switch"), 10, &shim, &target), 0);
            move || {
                turn += 1;
                let mut command = pool.launch(&["exec", "hi"]);
                command.env("CODEX_POOL_ACCOUNT", format!("user{}", turn % 2));
                command
            }
        }),
        kind("own home", Some(2.5), {
            let pool = busy.clone();
            move || {
                let mut command = pool.launch(&["exec", "hi"]);
                command.env("CODEX_POOL_ACCOUNT", "user5");
                command
            }
        }),
        kind("pick, 1000 accounts", Some(4.0), move || thousand.launch(&["exec", "hi"])),
    ];
    for round in 0..WARM_UP + RUNS {
        for kind in &mut kinds {
            let mut command = (kind.command)();
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let start = Instant::now();
            let status = command.status().expect("it starts");
            let took = start.elapsed();
            assert!(status.success(), "{}: {status}", kind.name);
            if round >= WARM_UP {
                kind.times.push(took);
            }
        }
    }
    sitting.kill().and_then(|()| sitting.wait().map(drop)).expect("the sleeper ends");
    report(&mut kinds, &shim, json);
}

fn kind(name: &'static str, limit: Option<f64>, command: impl FnMut() -> Command + 'static) -> Kind {
    Kind { name, limit, command: Box::new(command), times: Vec::new() }
}

fn report(kinds: &mut [Kind], shim: &Path, json: bool) {
    for kind in kinds.iter_mut() {
        kind.times.sort_unstable();
    }
    let at = |kind: &Kind, share: f64| {
        kind.times[((kind.times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6
    };
    let direct = at(&kinds[0], 0.5);
    let unit = at(&kinds[1], 0.5) - direct;
    let size = std::fs::metadata(shim).map_or(0, |m| m.len());
    if json {
        let rows: Vec<_> = kinds
            .iter()
            .map(|k| {
                json!({ "name": k.name, "median_us": at(k, 0.5), "p10_us": at(k, 0.1), "p90_us": at(k, 0.9),
                "ratio": (at(k, 0.5) - direct) / unit, "limit": k.limit })
            })
            .collect();
        println!("{}", json!({ "bench": "launch", "runs": RUNS, "shim_bytes": size, "kinds": rows }));
        return;
    }
    println!("{:<22} {:>9} {:>9} {:>9} {:>7} {:>7}", "", "p10 us", "median", "p90 us", "ratio", "limit");
    for kind in kinds.iter() {
        let limit = kind.limit.map_or_else(String::new, |l| format!("{l:.1}"));
        println!(
            "{:<22} {:>9.0} {:>9.0} {:>9.0} {:>7.2} {limit:>7}",
            kind.name,
            at(kind, 0.1),
            at(kind, 0.5),
            at(kind, 0.9),
            (at(kind, 0.5) - direct) / unit,
        );
    }
    println!("shim: {:.2} MB", size as f64 / 1e6);
}

/// Compiles one of the C programs, static.
fn compile(dir: &Path, source: &str, target: Option<&Path>) -> PathBuf {
    let out = dir.join(source.trim_end_matches(".c"));
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-static", "-o"]).arg(&out);
    if let Some(target) = target {
        cc.arg(format!("-DTARGET=\"{}\"", target.display()));
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/launch").join(source);
    assert!(cc.arg(source).status().expect("a C compiler").success());
    out
}

/// The shim as it is installed: optimized, and static where that can be.
fn static_shim() -> PathBuf {
    let out = testkit::bins::target_dir().join("bench-bin");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/build.sh");
    let status = Command::new("sh")
        .arg(script)
        .arg(&out)
        .env("CARGO_TARGET_DIR", testkit::bins::target_dir())
        .status();
    assert!(status.expect("sh").success());
    out.join("codex")
}

/// A pool with accounts whose usage is fresh.
#[derive(Clone)]
struct Pool {
    home: PathBuf,
    shim: PathBuf,
    target: PathBuf,
}

impl Pool {
    fn new(home: &Path, accounts: usize, shim: &Path, target: &Path) -> Pool {
        let pool = Pool { home: home.to_owned(), shim: shim.to_owned(), target: target.to_owned() };
        std::fs::create_dir_all(home.join(".codex")).expect("a home");
        let backend = Backend::start();
        let list: Vec<_> = (0..accounts)
            .map(|i| {
                let name = format!("user{i}");
                backend.add(&name);
                let auth: serde_json::Value = serde_json::from_str(&backend.auth_json(&name)).expect("JSON");
                json!({ "id": format!("old-{i}"), "label": name, "authJson": auth })
            })
            .collect();
        let store = home.join("store.json");
        std::fs::write(&store, json!({ "version": 1, "accounts": list }).to_string()).expect("a store");
        let status =
            pool.admin(&["import", "store.json"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.expect("codex-pool starts").success());
        let listed = pool.admin(&["list", "--json"]).output().expect("codex-pool starts");
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
        let usage: serde_json::Map<_, _> = listed["accounts"]
            .as_array()
            .expect("accounts")
            .iter()
            .enumerate()
            .map(|(i, account)| {
                let windows = json!([
                    { "window_seconds": 18000, "used_percent": 10.0, "resets_at": now + 9000 },
                    { "window_seconds": 604_800, "used_percent": (i % 50) as f64, "resets_at": now + 300_000 },
                ]);
                let usage = json!({ "fetched_at": now + 40, "source": "api", "limit_reached": false, "windows": windows });
                (account["id"].as_str().expect("an id").to_owned(), json!({ "usage": usage }))
            })
            .collect();
        let file = home.join(".codex-pool/usage.json");
        std::fs::write(file, json!({ "version": 1, "accounts": usage }).to_string()).expect("usage");
        // The first launch makes what later ones find.
        assert!(pool.launch(&["exec", "hi"]).status().expect("it starts").success());
        pool
    }

    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .env_clear()
            .env("HOME", &self.home)
            .env("TMPDIR", "/nonexistent")
            .current_dir(&self.home);
        command.env("PATH", "/usr/bin:/bin").env("CODEX_POOL_CODEX", &self.target);
        command
    }

    fn launch(&self, args: &[&str]) -> Command {
        self.command(&self.shim, args)
    }

    fn admin(&self, args: &[&str]) -> Command {
        self.command(&testkit::bins::codex_pool(), args)
    }

    /// A launch that stays.
    fn sleeper(&self) -> std::process::Child {
        let mut command = self.launch(&["600"]);
        command.env("CODEX_POOL_CODEX", "/bin/sleep").env("CODEX_POOL_ACCOUNT", "user0");
        let child = command.spawn().expect("it starts");
        let seat = self.home.join(".codex-pool/launches");
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::fs::read_dir(&seat).map_or(0, Iterator::count) == 0 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        child
    }
}
