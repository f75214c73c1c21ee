//! A renewal in a shared pool that is cut off at every step: its process is killed, or its way to the database ends, at
//! each message of the database and around the request to the issuer. Whatever happens, no used-up token is sent, the
//! other machine goes on as soon as it may, and in the end both have the newest login.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::backend::{Fault, LoginSpec, Route, UserSpec, refresh_token};
use testkit::postgres::Server;
use testkit::{SOON, World, answered, wait_until};

use crate::world::{code, init, joined, machines, shared_by, status};

/// A way to the database that is cut off at a chosen message, in either direction.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Ends>);

struct Ends {
    /// How many messages still pass; negative: all.
    left: AtomicI64,
    /// Who is killed then; 0: the way ends instead.
    victim: AtomicU32,
    /// Whether that has happened.
    cut: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Wire {
    /// Listens on a port and leads to the server's. Returns the port, too.
    pub(crate) fn to(server: u16) -> (Wire, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let wire = Wire(Arc::new(Ends {
            left: AtomicI64::new(-1),
            victim: AtomicU32::new(0),
            cut: AtomicBool::new(false),
            streams: Mutex::new(Vec::new()),
        }));
        let all = wire.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if all.0.cut.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let copy = |stream: &TcpStream| stream.try_clone().expect("a socket");
                all.0.streams.lock().expect("the streams").extend([copy(&client), copy(&server)]);
                for (from, to) in [(copy(&client), copy(&server)), (server, client)] {
                    let wire = all.clone();
                    std::thread::spawn(move || wire.pump(from, to));
                }
            }
        });
        (wire, port)
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 65_536];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if self.0.cut.load(Ordering::SeqCst) || self.passes() && to.write_all(&buffer[..length]).is_err()
            {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Counts a message. Returns whether it passes.
    fn passes(&self) -> bool {
        if self.0.left.load(Ordering::SeqCst) < 0 || self.0.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return true;
        }
        self.0.cut.store(true, Ordering::SeqCst);
        let victim = self.0.victim.load(Ordering::SeqCst);
        if victim > 0 {
            let _ = kill(Pid::from_raw(i32::try_from(victim).expect("a pid")), Signal::SIGKILL);
        }
        for stream in self.0.streams.lock().expect("the streams").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        false
    }

    /// Cuts the way off after so many messages.
    pub(crate) fn cut_after(&self, messages: i64) {
        self.0.left.store(messages, Ordering::SeqCst);
    }

    /// Lets everything pass again. Returns whether the way was cut off.
    pub(crate) fn restore(&self) -> bool {
        self.0.left.store(-1, Ordering::SeqCst);
        self.0.victim.store(0, Ordering::SeqCst);
        self.0.cut.swap(false, Ordering::SeqCst)
    }
}

/// Two members, the first of which goes through a wire.
struct Lab {
    server: Server,
    wire: Wire,
    laptop: World,
    desktop: World,
    users: usize,
}

impl Lab {
    #[track_caller]
    fn new() -> Option<Lab> {
        let server = Server::start()?;
        let (wire, port) = Wire::to(server.port());
        let laptop = World::new(&[]);
        init(&laptop, &server.url_at(port), "laptop").ok();
        let desktop = joined(&laptop, "--member", "desktop");
        let keys = desktop.pool_home().join("share.toml");
        let text = std::fs::read_to_string(&keys).expect("the keys");
        let own_way = text.replace(&format!(":{port}/"), &format!(":{}/", server.port()));
        assert_ne!(own_way, text);
        desktop.write_private(&keys, &own_way);
        Some(Lab { server, wire, laptop, desktop, users: 0 })
    }

    /// Both machines get an account whose tokens are due.
    fn new_account(&mut self) -> String {
        self.users += 1;
        let user = format!("user{}", self.users);
        self.laptop.add_as(&user, UserSpec::new(&user), &LoginSpec::expires_in(7_200));
        for machine in [&self.laptop, &self.desktop] {
            machine.pool(&["refresh"]).env("CODEX_REFRESH_TOKEN_URL_OVERRIDE", "http://127.0.0.1:9/").run();
            machine.forget_renewals();
        }
        assert_eq!(self.desktop.stored(&user), self.laptop.stored(&user));
        self.laptop.backend().clear_report();
        user
    }

    /// What was held ends, as it does when its time is over.
    fn holds_end(&self) {
        self.server.sql("update codex_pool_records set held_until = now()");
        for machine in [&self.laptop, &self.desktop] {
            machine.forget_renewals();
        }
    }

    /// Cuts one renewal of the laptop off after so many messages. Returns whether it was not done before.
    fn cut_off(&mut self, messages: i64, kills: bool) -> bool {
        let user = self.new_account();
        let what = format!("{user}, message {messages}, {}", if kills { "killed" } else { "cut off" });
        self.wire.cut_after(messages);
        let running = self.laptop.pool(&["refresh", "--background", &user]).spawn();
        if kills {
            self.wire.0.victim.store(running.pid(), Ordering::SeqCst);
        }
        running.wait();
        let cut = self.wire.restore();
        // While the lease holds, and after a mark, the desktop leaves the token alone.
        let sent = self.laptop.backend().report().refreshes.len();
        self.desktop.exec_as(&user).run().ok();
        self.holds_end();
        self.desktop.pool(&["refresh", "--background", &user]).run();
        let by_desktop = self.laptop.backend().report().refreshes.len() - sent;
        assert!(sent + by_desktop <= 1, "{what}: {sent} {by_desktop}");
        // The laptop comes back, and either knows the mark as its own or finds the newest login there.
        self.holds_end();
        self.laptop.pool(&["refresh", "--background", &user]).run().ok();
        self.holds_end();
        for machine in [&self.laptop, &self.desktop, &self.laptop] {
            machine.pool(&["refresh", &user]).run().ok();
        }
        let newest = self.laptop.backend().newest_refresh_token(&user);
        for machine in [&self.laptop, &self.desktop] {
            assert_eq!(refresh_token(&machine.stored(&user)), newest, "{what}");
            answered(machine.exec_as(&user).run(), &user);
        }
        let report = self.laptop.backend().report();
        assert_eq!(report.refreshes.len(), 1, "{what}: {:?}", report.refreshes);
        self.laptop.backend().assert_clean();
        cut
    }
}

/// Every how many messages an ordinary run cuts off. A whole one does it at each.
fn stride() -> usize {
    if std::env::var_os("CODEX_POOL_TEST_ALL").is_some_and(|all| all == "1") { 1 } else { 7 }
}

fn every_step(kills: bool) {
    let Some(mut lab) = Lab::new() else { return };
    let mut steps = 0;
    for messages in (i64::from(kills)..).step_by(stride()) {
        if !lab.cut_off(messages, kills) {
            break;
        }
        steps += 1;
    }
    assert!(steps >= 20 / stride(), "{steps} steps are too few for a renewal");
}

#[test]
fn renewal_killed_at_any_message_of_the_database_loses_nothing() {
    every_step(true);
}

#[test]
fn renewal_cut_off_from_the_database_at_any_message_loses_nothing() {
    every_step(false);
}

#[test]
fn renewal_killed_around_its_request_sends_no_used_token_from_elsewhere() {
    let Some(mut lab) = Lab::new() else { return };
    for done in [false, true] {
        let user = lab.new_account();
        // The request is there, and the process is killed before its answer.
        let fault = if done { Fault::LostAnswer } else { Fault::HangUp };
        lab.laptop.backend().inject_times(Route::Token, None, fault, 1);
        lab.laptop.pool(&["refresh", "--background", &user]).run();
        lab.holds_end();
        for _ in 0..2 {
            lab.desktop.pool(&["refresh", &user]).run();
            assert_eq!(lab.laptop.backend().report().refreshes.len(), usize::from(done), "{user}");
        }
        lab.laptop.pool(&["refresh", "--background", &user]).run();
        lab.desktop.pool(&["refresh", &user]).run();
        let report = lab.laptop.backend().report();
        // Who sent it can find out whether it was used, and nobody else can.
        assert_eq!(report.violations.len(), usize::from(done), "{user}: {:?}", report.violations);
        let good =
            refresh_token(&lab.desktop.stored(&user)) == lab.laptop.backend().newest_refresh_token(&user);
        assert_eq!(good, !done);
    }
}

/// A machine whose join was killed when its name was entered, and its code not used up yet.
#[track_caller]
fn join_is_killed(server: &Server, laptop: &World) {
    server.sql(
        "create function waits() returns trigger language plpgsql as $$ begin perform pg_sleep(600); return old; end $$; \
         create trigger waits before delete on codex_pool_codes for each row execute function waits()",
    );
    let (desktop, code) = (laptop.another(), code(laptop, "--member"));
    let join = desktop.pool(&["share", "join", "--name", "desktop"]).stdin(code).spawn();
    wait_until("its name on the list", SOON, || machines(laptop) == ["desktop member", "laptop member"]);
    kill(Pid::from_raw(i32::try_from(join.pid()).expect("a pid")), Signal::SIGKILL).expect("it waits");
    join.wait();
    assert!(!desktop.pool_home().join("share.toml").exists());
    // The server would go on to wait for the sake of a client that is gone.
    server.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' and pid <> \
         pg_backend_pid()",
    );
}

#[test]
fn last_member_keeps_its_logins_though_a_join_was_killed() {
    let Some((server, laptop)) = shared_by(&["alice"]) else { return };
    join_is_killed(&server, &laptop);
    laptop.pool(&["share", "leave", "--yes"]).run().ok();
    let newest = laptop.backend().newest_refresh_token("alice");
    assert_eq!(refresh_token(&laptop.stored("alice")), newest, "nothing else has it");
    assert_eq!(server.sql("select count(*) from codex_pool_records").trim(), "0", "and nothing stays");
}

#[test]
fn name_of_a_join_that_was_killed_is_taken_off_the_list() {
    let Some((server, laptop)) = shared_by(&["alice"]) else { return };
    join_is_killed(&server, &laptop);
    assert_eq!(status(&laptop)["machines"][0]["joined"], false);
    laptop.pool(&["share", "shut-out", "desktop"]).run().ok().says("`desktop` is shut out");
    assert_eq!(machines(&laptop), ["laptop member"]);
    server.sql("drop trigger waits on codex_pool_codes");
    joined(&laptop, "--member", "desktop");
    assert_eq!(machines(&laptop), ["desktop member", "laptop member"]);
    assert_eq!(status(&laptop)["machines"][0]["joined"], true);
}
