//! A PostgreSQL of its own for each test that asks: in a temporary folder, on a loopback port, by a user without rights.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::files::files_below;
use crate::needs::missing;
use crate::{NOBODY, is_root};

/// The password of the database's owner.
pub const PASSWORD: &str = "fake-password";
/// How long a start may take on a machine that is busy.
const START: Duration = Duration::from_secs(120);

/// A server that runs. It ends when it is dropped.
pub struct Server {
    process: Child,
    programs: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
}

/// Returns the folder of the server's programs; `None` if it is not installed.
#[track_caller]
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = debian.map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders.extend(std::env::split_paths(&path));
    let whole =
        |dir: &PathBuf| ["initdb", "postgres", "psql", "pg_dump"].iter().all(|name| dir.join(name).exists());
    let found = folders.into_iter().find(whole);
    if found.is_none() {
        missing("PostgreSQL is not installed (`apt-get install postgresql`)");
    }
    found
}

impl Server {
    /// Starts one; `None` where there is none to start.
    #[track_caller]
    pub fn start() -> Option<Server> {
        Server::start_with(None)
    }

    /// Starts one that speaks TLS, too, with this certificate and key.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn start_with(certificate: Option<(&str, &str)>) -> Option<Server> {
        let programs = programs()?;
        let dir = tempfile::tempdir().expect("a folder");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        let data = dir.path().join("data");
        fs::create_dir(&data).expect("a folder");
        fs::write(dir.path().join("password"), PASSWORD).expect("write it");
        let (public, private) = certificate.unwrap_or_default();
        for (name, text) in [("certificate", public), ("key", private)] {
            fs::write(dir.path().join(name), text).expect("write it");
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o600))
                .expect("permissions");
        }
        // It must not run as root.
        if is_root() {
            for name in ["data", "password", "certificate", "key", "."] {
                chown(dir.path().join(name), Some(NOBODY), Some(NOBODY)).expect("give it away");
            }
        }
        let command = |name: &str| {
            let mut command = Command::new(programs.join(name));
            command
                .current_dir(dir.path())
                .env_clear()
                .env("LC_ALL", "C")
                .env("TZ", "UTC")
                .stdin(Stdio::null());
            if is_root() {
                command.uid(NOBODY).gid(NOBODY);
            }
            command
        };
        let made = command("initdb")
            .args([
                "--no-sync",
                "--auth=scram-sha-256",
                "--username=owner",
                "--pwfile=password",
                "--pgdata=data",
            ])
            .output()
            .expect("run initdb");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let log = File::create(dir.path().join("log")).expect("a log");
        let process = command("postgres")
            .args(["-D", "data", "-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(if certificate.is_some() { &["-c", "ssl=on"][..] } else { &[] })
            .args(["-c", "ssl_cert_file=../certificate", "-c", "ssl_key_file=../key"])
            .args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=90"])
            // Everything that it is told is in its log, with the parameters.
            .args(["-c", "log_statement=all", "-c", "log_min_duration_statement=0"])
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn()
            .expect("run postgres");
        let mut server = Server { process, programs, dir, port };
        let begun = Instant::now();
        while !server.psql("select 1").status.success() {
            let runs = server.process.try_wait().expect("its state").is_none();
            assert!(runs && begun.elapsed() < START, "{}", server.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(server)
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What is in its log.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join("log")).expect("the log")).into_owned()
    }

    /// The address of its database, for the owner.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same through another port, where something listens in.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://owner:{PASSWORD}@127.0.0.1:{port}/postgres")
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn psql(&self, sql: &str) -> Output {
        self.run("psql", &["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--command", sql])
    }

    /// Runs SQL with the server's own client, and returns what it prints.
    ///
    /// # Panics
    /// If it fails.
    pub fn sql(&self, sql: &str) -> String {
        whole(self.psql(sql))
    }

    /// Returns what `pg_dump` makes of the database.
    ///
    /// # Panics
    /// If it fails.
    pub fn dump(&self) -> String {
        whole(self.run("pg_dump", &["--inserts"]))
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        Command::new(self.programs.join(program))
            .args(args)
            .arg(format!("--dbname={}", self.url()))
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .expect("run it")
    }

    /// Ends it as a loss of power does.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Returns all that outlives a connection or leaves the machines, with its place: the dump, the log, what a tap has
    /// heard, and every file of the database.
    ///
    /// # Panics
    /// If the server does not answer.
    pub fn all_it_has(&self, heard: &Mutex<Vec<u8>>) -> Vec<(String, Vec<u8>)> {
        self.sql("checkpoint");
        let heard = heard.lock().expect("the tap").clone();
        let mut all = vec![
            ("dump".to_owned(), self.dump().into_bytes()),
            ("log".to_owned(), self.log().into_bytes()),
            ("network".to_owned(), heard),
        ];
        let files = files_below(&self.dir.path().join("data")).into_iter();
        all.extend(files.map(|file| (file.display().to_string(), fs::read(&file).unwrap_or_default())));
        all
    }

    /// Listens in on every connection through the returned port.
    ///
    /// # Panics
    /// If there is no port.
    pub fn tap(&self) -> (u16, Arc<Mutex<Vec<u8>>>) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (port, server, ears) =
            (listener.local_addr().expect("a port").port(), self.port, Arc::clone(&heard));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let ends = [
                    (client.try_clone().expect("a socket"), server.try_clone().expect("a socket")),
                    (server, client),
                ];
                for (mut from, mut to) in ends {
                    let heard = Arc::clone(&ears);
                    std::thread::spawn(move || {
                        let mut buffer = [0; 16_384];
                        while let Ok(length @ 1..) = from.read(&mut buffer) {
                            heard.lock().expect("the tap").extend(&buffer[..length]);
                            if to.write_all(&buffer[..length]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        (port, heard)
    }
}

/// Returns what a program printed that must have succeeded.
fn whole(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
