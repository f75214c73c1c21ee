//! A stand-in for the real Codex, for tests and the demo where there is no Node: it treats `auth.json` and the service
//! as Codex does (reads early, refreshes when under five minutes are left or after a 401, writes in place, revokes at
//! the start of a login), and a turn is one request. It leaves everything else out.
//!
//! Commands: `--version`, `exec [resume ID] PROMPT`, `login [--device-auth | --with-api-key | status]`, `logout`, and those
//! of the background server (`server`); without a command the prompt, or each line of stdin, is a turn. Options that Codex
//! has are ignored.
//!
//! For tests: `STANDIN_HOLD=<file>` waits between reading `auth.json` and the first turn until the file is there
//! (`holding` goes to stderr first), `STANDIN_REREAD=1` reads again afterwards, `STANDIN_TURNS=<n>` takes n turns,
//! `STANDIN_LOG=1` writes a session log, with reasoning that is bound to the account, in which `exec resume` goes on,
//! `STANDIN_SLOW_WRITE=<ms>` pauses that long in the middle of writing `auth.json`.

mod auth;
mod log;
mod server;
mod service;

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use auth::Auth;
use service::Service;

type Result<T> = std::result::Result<T, String>;

/// Options of Codex that take a value.
const WITH_VALUE: [&str; 17] = [
    "-c",
    "--config",
    "--enable",
    "--disable",
    "--remote",
    "-i",
    "--image",
    "-m",
    "--model",
    "-p",
    "--profile",
    "-s",
    "--sandbox",
    "-C",
    "--cd",
    "-a",
    "--ask-for-approval",
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|a| a == "--version" || a == "-V") {
        return say("codex-cli 0.0.0-standin").map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let words = positionals(&args);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["login", "status"] => login_status(),
        ["login", ..] => match login_options(&args) {
            Ok(options) => login(&options),
            Err(unknown) => {
                complain(&format!("error: unexpected argument '{unknown}' found"));
                return ExitCode::from(2);
            }
        },
        ["logout", ..] => logout(),
        ["exec" | "e", "resume", thread, prompt] => logged(Some(thread), prompt),
        ["exec" | "e", prompt] => logged(None, prompt),
        ["exec" | "e", ..] => Err("no prompt".to_owned()),
        ["app-server", "daemon", verb] => server::daemon(verb),
        ["app-server", ..] => server::serve(),
        ["queue", thread, message] => server::queue(thread, message),
        ["features", ..] => Ok(()),
        ["resume", thread] if std::env::var_os("STANDIN_WINDOW").is_some() => server::window(thread),
        [prompt, ..] => turns(Some(prompt)),
        [] => turns(None),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("ERROR: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Words that are neither options nor their values; what follows `--` is one of them.
fn positionals(args: &[String]) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            words.extend(rest.cloned());
            break;
        } else if WITH_VALUE.contains(&arg.as_str()) {
            rest.next();
        } else if !arg.starts_with('-') {
            words.push(arg.clone());
        }
    }
    words
}

fn codex_home() -> PathBuf {
    match std::env::var_os("CODEX_HOME") {
        Some(home) if !home.is_empty() => PathBuf::from(home),
        _ => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".codex"),
    }
}

/// Takes turns of an `exec`, with a session log if that is asked for.
fn logged(thread: Option<&str>, prompt: &str) -> Result<()> {
    if std::env::var_os("STANDIN_LOG").is_none() {
        return turns(Some(prompt));
    }
    let home = codex_home();
    let auth = Auth::read(&home)?;
    let mut log = log::Log::open(&home, thread, &auth).map_err(text)?;
    // The service refuses a history with reasoning that is bound to another account.
    let done = match log.is_foreign() {
        true => Err("unexpected status 400: the encrypted content could not be verified".to_owned()),
        false => turns(Some(prompt)),
    };
    log.end(done.as_ref().err().map(String::as_str)).map_err(text)?;
    done
}

/// Takes one turn with that prompt, or one per line of stdin.
fn turns(prompt: Option<&str>) -> Result<()> {
    let home = codex_home();
    let service = Service::configured(&home)?;
    let mut auth = Auth::read(&home)?;
    if let Some(gate) = std::env::var_os("STANDIN_HOLD") {
        complain("holding");
        while !Path::new(&gate).exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        if std::env::var_os("STANDIN_REREAD").is_some() {
            auth = Auth::read(&home)?;
        }
    }
    let Some(prompt) = prompt else { return conversation(&service, &mut auth) };
    let count = std::env::var("STANDIN_TURNS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    for _ in 0..count {
        say(&turn(&service, &mut auth, prompt)?)?;
    }
    Ok(())
}

fn conversation(service: &Service, auth: &mut Auth) -> Result<()> {
    let ask = || {
        if io::stdin().is_terminal() {
            write!(io::stdout(), "> ").and_then(|()| io::stdout().flush())
        } else {
            Ok(())
        }
    };
    ask().map_err(text)?;
    for line in io::stdin().lock().lines() {
        say(&turn(service, auth, &line.map_err(text)?)?)?;
        ask().map_err(text)?;
    }
    Ok(())
}

/// Sends one request. On a 401 it reads the file again, then refreshes the token, once.
fn turn(service: &Service, auth: &mut Auth, prompt: &str) -> Result<String> {
    if auth.near_end() {
        renew(service, auth)?;
    }
    match service.respond(auth, prompt)? {
        Some(answer) => return Ok(answer),
        None => renew(service, auth)?,
    }
    service.respond(auth, prompt)?.ok_or_else(|| "401 Unauthorized".to_owned())
}

/// Takes what another process put in the file, else refreshes and writes the file.
fn renew(service: &Service, auth: &mut Auth) -> Result<()> {
    let now_there = Auth::read(&auth.home)?;
    if now_there.account_id() != auth.account_id() {
        return Err("you have since logged out or signed in to another account".to_owned());
    }
    let unchanged = now_there.access_token() == auth.access_token();
    *auth = now_there;
    if unchanged || auth.near_end() {
        let answer = service.refresh(auth)?;
        auth.take(&answer)?;
        auth.write()?;
    }
    Ok(())
}

/// What `login` was asked for.
#[derive(Default)]
struct LoginOptions {
    with_api_key: bool,
    issuer: Option<String>,
}

fn login_options(args: &[String]) -> std::result::Result<LoginOptions, String> {
    let mut options = LoginOptions::default();
    let mut rest = args.iter().skip_while(|a| *a != "login").skip(1);
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--device-auth" => {}
            "--with-api-key" => options.with_api_key = true,
            "--experimental_issuer" => options.issuer = rest.next().cloned(),
            "-c" | "--config" => drop(rest.next()),
            other => return Err(other.to_owned()),
        }
    }
    Ok(options)
}

/// Ends the login that is there, first of all, as Codex does; then makes a new one.
fn login(options: &LoginOptions) -> Result<()> {
    let home = codex_home();
    std::fs::create_dir_all(&home).map_err(text)?;
    let service = Service::configured(&home)?;
    drop_login(&service, &home)?;
    let auth = if options.with_api_key {
        let mut key = String::new();
        io::stdin().read_to_string(&mut key).map_err(text)?;
        Auth::of_api_key(&home, key.trim())
    } else {
        let issuer = options.issuer.clone().unwrap_or_else(|| service.issuer());
        let answer =
            service.device_login(&issuer, |code| complain(&format!("Enter this one-time code: {code}")))?;
        Auth::of_login(&home, &answer)?
    };
    auth.write()?;
    complain("Successfully logged in");
    Ok(())
}

fn logout() -> Result<()> {
    let home = codex_home();
    let there = drop_login(&Service::configured(&home)?, &home)?;
    complain(if there { "Successfully logged out" } else { "Not logged in" });
    Ok(())
}

fn login_status() -> Result<()> {
    let auth = Auth::read(&codex_home()).map_err(|_| "Not logged in".to_owned())?;
    complain(if auth.access_token().is_some() {
        "Logged in using ChatGPT"
    } else {
        "Logged in using an API key"
    });
    Ok(())
}

/// Revokes and removes the login (a link, not its target). Whether there was one.
fn drop_login(service: &Service, home: &Path) -> Result<bool> {
    let there = Auth::read(home).ok();
    if let Some(token) = there.as_ref().and_then(Auth::refresh_token) {
        // Codex goes on when the issuer cannot be reached.
        let _ = service.revoke(token);
    }
    let path = home.join("auth.json");
    if path.symlink_metadata().is_ok() {
        std::fs::remove_file(path).map_err(text)?;
    }
    Ok(there.is_some())
}

fn say(line: &str) -> Result<()> {
    writeln!(io::stdout(), "{line}").map_err(text)
}

fn complain(line: &str) {
    // There is nowhere to report that stderr is closed.
    let _ = writeln!(io::stderr(), "{line}");
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
