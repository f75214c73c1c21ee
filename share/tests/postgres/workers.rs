//! Many machines, each a process with a home of its own, that renew one account at once, and some of which are killed in
//! the middle. The service is a thread of the test. No refresh token is sent twice, except by a machine that was killed
//! while it waited for the answer.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use codex_pool_share::protocol::{Begun, Pushed};
use codex_pool_share::{Seen, clock};
use serde::{Deserialize, Serialize};

use super::server::start;
use super::{login, share};

const ACCOUNT: &str = "aaaaaaaaaa";
/// The machines, and how often the account is renewed by all of them together.
const MACHINES: usize = 16;
const RENEWALS: i64 = 40;
/// How long all of it may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a machine has on its disk.
#[derive(Serialize, Deserialize)]
struct Disk {
    login: i64,
    /// The renewal that was begun, and whether its token may have left.
    mine: Option<(String, bool)>,
    seen: Seen,
}

impl Disk {
    fn load(home: &Path) -> Disk {
        let text = std::fs::read_to_string(home.join("disk"));
        text.ok().map_or(Disk { login: 1, mine: None, seen: Seen::default() }, |text| {
            serde_json::from_str(&text).expect("what was written whole")
        })
    }

    fn save(&self, home: &Path) {
        let new = home.join("disk.new");
        std::fs::write(&new, serde_json::to_string(self).expect("JSON")).expect("write it");
        std::fs::rename(new, home.join("disk")).expect("put it in place");
    }
}

/// Asks the service. Returns the new login; `None` if the token was used up.
fn renew(service: &str, token: i64, uncertain: bool) -> Option<i64> {
    let mut stream = TcpStream::connect(service).expect("the service");
    writeln!(stream, "{token} {uncertain}").expect("ask");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("an answer");
    answer.trim().parse().ok()
}

/// The service: answers until the test ends, and counts tokens that were sent twice.
#[derive(Default)]
struct Service {
    good: i64,
    reused: u32,
    reused_by_the_uncertain: u32,
}

fn serve(listener: TcpListener, service: Arc<Mutex<Service>>) {
    for mut stream in listener.incoming().flatten() {
        let mut line = String::new();
        if BufReader::new(stream.try_clone().expect("a socket")).read_line(&mut line).is_err() {
            continue;
        }
        let Some((token, uncertain)) = line.trim().split_once(' ') else { continue };
        let mut service = service.lock().expect("the service");
        let is_good = token == service.good.to_string();
        if is_good {
            service.good += 1;
        } else if uncertain == "true" {
            service.reused_by_the_uncertain += 1;
            // The person at that machine logs in.
            service.good += 1;
        } else {
            service.reused += 1;
        }
        let answer =
            if is_good || uncertain == "true" { service.good.to_string() } else { "used up".to_owned() };
        drop(service);
        // Time for the test to kill the one that waits.
        std::thread::sleep(Duration::from_millis(15));
        let _ = writeln!(stream, "{answer}");
    }
}

/// One machine: this same program, started by the test below.
#[test]
fn worker_renews_until_the_service_has_seen_enough() {
    let Some(home) = std::env::var_os("SHARE_TEST_HOME").map(PathBuf::from) else { return };
    let variable = |name: &str| std::env::var(name).expect(name);
    let (url, service) = (variable("SHARE_TEST_URL"), variable("SHARE_TEST_SERVICE"));
    let mut disk = Disk::load(&home);
    let name = home.file_name().expect("a name").to_string_lossy().into_owned();
    let address = codex_pool_share::address::Address::parse(&url).expect("an address");
    let store =
        codex_pool_share::postgres::Postgres::new(address, super::keys().runner().pool).expect("a store");
    let mut share =
        codex_pool_share::protocol::Share::new(super::keys(), &name, store, std::mem::take(&mut disk.seen));
    let begun = Instant::now();
    while disk.login < RENEWALS {
        assert!(begun.elapsed() < PATIENCE);
        let mine = disk.mine.as_ref().map(|(id, _)| id.clone());
        let begun = share.begin(&login(ACCOUNT, disk.login), mine.as_deref(), clock::now());
        disk.seen = share.seen.clone();
        let mut ticket = match begun {
            Ok(Begun::Leased(ticket)) => ticket,
            Ok(Begun::Newer(theirs)) => {
                (disk.login, disk.mine) = (theirs.age.issued_at.expect("a number"), None);
                disk.save(&home);
                continue;
            }
            Ok(Begun::Busy(..) | Begun::SentBy(_) | Begun::Removed(_)) | Err(_) => {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
        };
        let uncertain = disk.mine.as_ref().is_some_and(|(_, sent)| *sent);
        disk.mine = Some((ticket.id.clone(), uncertain));
        disk.save(&home);
        if !matches!(share.mark(&mut ticket), Ok(true)) {
            continue;
        }
        disk.mine = Some((ticket.id.clone(), true));
        disk.save(&home);
        if !ticket.may_send(clock::now()) {
            let _ = share.clear(ticket);
            continue;
        }
        disk.login = renew(&service, disk.login, uncertain).expect("a token that is good");
        disk.mine = None;
        disk.save(&home);
        if let Ok(Pushed::Newer(theirs)) = share.finish(ticket, &login(ACCOUNT, disk.login)) {
            disk.login = theirs.age.issued_at.expect("a number");
        }
        disk.seen = share.seen.clone();
        disk.save(&home);
    }
}

/// The machines of the test, which end with it.
struct Machines(Vec<Child>);

impl Drop for Machines {
    fn drop(&mut self) {
        for machine in &mut self.0 {
            let _ = machine.kill();
            let _ = machine.wait();
        }
    }
}

#[test]
fn many_machines_of_which_some_are_killed_send_no_token_twice() {
    let Some(server) = start() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let service = Arc::new(Mutex::new(Service { good: 1, ..Service::default() }));
    let serving = Arc::clone(&service);
    std::thread::spawn(move || serve(listener, serving));
    let start = |n: usize| -> Child {
        let home = dir.path().join(format!("machine-{n}"));
        std::fs::create_dir_all(&home).expect("a home");
        Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "workers::worker_renews_until_the_service_has_seen_enough"])
            .env("SHARE_TEST_HOME", &home)
            .env("SHARE_TEST_URL", server.url())
            .env("SHARE_TEST_SERVICE", &address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("start a machine")
    };
    let mut all = Machines((0..MACHINES).map(start).collect());
    let machines = &mut all.0;
    let (begun, mut killed, mut next) = (Instant::now(), 0, 0);
    let mut seen = 0;
    loop {
        assert!(begun.elapsed() < PATIENCE, "{:?}", service.lock().expect("the service").good);
        let good = service.lock().expect("the service").good;
        if machines.iter_mut().all(|machine| machine.try_wait().expect("its state").is_some()) {
            break;
        }
        if good > seen {
            // One machine dies after each renewal, and comes back.
            seen = good;
            next = (next + 5) % MACHINES;
            if machines[next].try_wait().expect("its state").is_none() {
                machines[next].kill().expect("kill it");
                machines[next].wait().expect("its end");
                killed += 1;
                machines[next] = start(next);
            }
            // A lease of one that died would hold the others up for its whole time.
            server.sql("update codex_pool_records set held_until = held_until - interval '88 seconds' where kind = 'lease'");
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    for machine in machines {
        assert!(machine.wait().expect("its end").success(), "no machine was refused");
    }
    let service = service.lock().expect("the service");
    assert_eq!(service.reused, 0, "{} by machines that were killed", service.reused_by_the_uncertain);
    assert!(service.good >= RENEWALS && killed >= 5, "{} renewals, {killed} killed", service.good);
    let newest = share(&server.url(), "the test").pull().expect("an answer").logins;
    assert_eq!(newest[0].age.issued_at, Some(service.good), "the last answer is there");
}
