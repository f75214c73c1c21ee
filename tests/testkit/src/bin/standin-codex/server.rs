//! A stand-in for Codex's background server, as far as the pool sees it: `app-server daemon start | stop`, the server
//! itself, windows that have a thread loaded there (`resume ID` with `STANDIN_WINDOW=1`), and `queue`, with which a
//! thread takes a turn. As Codex's does, the server reads the login once, when it starts; a window does not start it
//! anew; and a message to a thread that no window shows waits.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};
use serde_json::{Value, json};
use testkit::alive;

use crate::auth::Auth;
use crate::log::Log;
use crate::service::Service;
use crate::{Result, codex_home, complain, say, text, turn};

const PAUSE: Duration = Duration::from_millis(3);
/// How long a server may take to start and to end.
const PATIENCE: usize = 3_000;

/// Runs `app-server daemon <verb>`.
pub(crate) fn daemon(verb: &str) -> Result<()> {
    let home = codex_home();
    let status = match verb {
        "start" => start(&home)?,
        "stop" => stop(&home)?,
        // It looks for a new Codex now and then, and outlives server and windows.
        "pid-update-loop" => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        other => return Err(format!("no such command: daemon {other}")),
    };
    say(&json!({"backend": "pid", "status": status}).to_string())
}

fn start(home: &Path) -> Result<&'static str> {
    let _one = lock(home)?;
    if running(home).is_some() {
        return Ok("alreadyRunning");
    }
    let program = std::env::current_exe().map_err(text)?;
    let mut server = Command::new(program);
    server.args(["app-server", "--listen", "unix://"]);
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut server = server.spawn().map_err(text)?;
    for _ in 0..PATIENCE {
        if running(home) == Some(server.id()) {
            return Ok("started");
        }
        if let Some(status) = server.try_wait().map_err(text)? {
            return Err(format!("the server does not start: {status}"));
        }
        std::thread::sleep(PAUSE);
    }
    Err("the server does not start".to_owned())
}

fn stop(home: &Path) -> Result<&'static str> {
    let _one = lock(home)?;
    let Some(pid) = running(home) else { return Ok("notRunning") };
    let _ = kill(Pid::from_raw(i32::try_from(pid).map_err(text)?), Signal::SIGTERM);
    for _ in 0..PATIENCE {
        if !alive(pid) {
            let _ = fs::remove_file(pid_file(home));
            // It would have taken its locks of threads away itself.
            let locks = fs::read_dir(home.join("thread-writer-locks")).into_iter().flatten().flatten();
            for file in locks.map(|entry| entry.path()) {
                if File::open(&file).is_ok_and(|lock| lock.try_lock().is_ok()) {
                    let _ = fs::remove_file(file);
                }
            }
            return Ok("stopped");
        }
        std::thread::sleep(PAUSE);
    }
    Err("the server does not stop".to_owned())
}

/// Is the server.
pub(crate) fn serve() -> Result<()> {
    let home = codex_home();
    let mut auth = Auth::read(&home)?;
    let service = Service::configured(&home)?;
    // It is in no group of whoever started it, who may have begun one for it.
    let _ = setsid();
    // A start that was killed may have left another one.
    let only = File::create(home.join("app-server-daemon/server.lock")).map_err(text)?;
    only.try_lock().map_err(text)?;
    let (pid, temporary) = (std::process::id(), pid_file(&home).with_extension("new"));
    fs::write(&temporary, json!({"pid": pid}).to_string()).map_err(text)?;
    fs::rename(temporary, pid_file(&home)).map_err(text)?;
    let mut loaded: BTreeMap<String, File> = BTreeMap::new();
    loop {
        let shown = shown(&home);
        let closed: Vec<String> = loaded.keys().filter(|id| !shown.contains(id)).cloned().collect();
        for id in closed {
            let _ = fs::remove_file(thread_lock(&home, &id));
            loaded.remove(&id);
        }
        for id in shown {
            if !loaded.contains_key(&id)
                && let Ok(file) = File::create(thread_lock(&home, &id))
                && file.try_lock().is_ok()
            {
                loaded.insert(id, file);
            }
        }
        for id in loaded.keys() {
            while let Some(message) = take_message(&home, id) {
                take_turn(&service, &mut auth, id, &message)?;
            }
        }
        std::thread::sleep(PAUSE);
    }
}

fn take_turn(service: &Service, auth: &mut Auth, thread: &str, message: &str) -> Result<()> {
    let mut log = Log::open(&auth.home, Some(thread), auth).map_err(text)?;
    let done = match log.is_foreign() {
        true => Err("unexpected status 400: the encrypted content could not be verified".to_owned()),
        false => turn(service, auth, message),
    };
    log.end(done.as_ref().err().map(String::as_str)).map_err(text)
}

/// Is a window that shows a thread, until the file `STANDIN_HOLD` is there.
pub(crate) fn window(thread: &str) -> Result<()> {
    let home = codex_home();
    start(&home)?;
    let me = folder(&home, "windows")?.join(std::process::id().to_string());
    fs::write(&me, thread).map_err(text)?;
    complain("holding");
    let gate = PathBuf::from(std::env::var_os("STANDIN_HOLD").unwrap_or_default());
    while !gate.exists() {
        std::thread::sleep(PAUSE);
    }
    fs::remove_file(me).map_err(text)
}

/// Leaves a message for a thread.
pub(crate) fn queue(thread: &str, message: &str) -> Result<()> {
    let queue = folder(&codex_home(), "queue")?;
    let name = format!("{thread}.{}", std::process::id());
    let temporary = queue.join(format!("{name}.new"));
    fs::write(&temporary, message).map_err(text)?;
    fs::rename(temporary, queue.join(name)).map_err(text)
}

fn take_message(home: &Path, thread: &str) -> Option<String> {
    let queue = fs::read_dir(home.join("app-server-control/queue")).ok()?.flatten();
    let mut files = queue.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with(thread) && !name.ends_with(".new")
    });
    let file = files.next()?;
    let message = fs::read_to_string(&file).ok()?;
    fs::remove_file(file).ok()?;
    Some(message)
}

/// Returns the threads that windows show.
fn shown(home: &Path) -> Vec<String> {
    let windows = fs::read_dir(home.join("app-server-control/windows")).into_iter().flatten().flatten();
    let open = windows.filter(|entry| entry.file_name().to_string_lossy().parse().is_ok_and(alive));
    open.filter_map(|entry| fs::read_to_string(entry.path()).ok().filter(|id| !id.is_empty())).collect()
}

/// Returns the server's process, if it runs.
fn running(home: &Path) -> Option<u32> {
    let record: Value = serde_json::from_slice(&fs::read(pid_file(home)).ok()?).ok()?;
    u32::try_from(record["pid"].as_u64()?).ok().filter(|pid| alive(*pid))
}

/// Takes the lock of those that start and stop the server.
fn lock(home: &Path) -> Result<File> {
    fs::create_dir_all(home.join("app-server-daemon")).map_err(text)?;
    fs::create_dir_all(home.join("thread-writer-locks")).map_err(text)?;
    let lock = File::create(home.join("app-server-daemon/daemon.lock")).map_err(text)?;
    lock.lock().map_err(text)?;
    Ok(lock)
}

fn pid_file(home: &Path) -> PathBuf {
    home.join("app-server-daemon/daemon.pid")
}

fn thread_lock(home: &Path, thread: &str) -> PathBuf {
    home.join("thread-writer-locks").join(format!("{thread}.lock"))
}

fn folder(home: &Path, name: &str) -> Result<PathBuf> {
    let folder = home.join("app-server-control").join(name);
    fs::create_dir_all(&folder).map_err(text)?;
    Ok(folder)
}
