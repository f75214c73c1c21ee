//! A session log, as far as others read it: the thread, and how its last turn ended.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::auth::Auth;

/// The real Codex has its log open for longer than this.
const OPEN: Duration = Duration::from_millis(300);

/// What encrypted reasoning begins with; then comes the account.
const BOUND: &str = "enc-";

/// An open log, in which a turn goes on.
pub(crate) struct Log {
    file: File,
    since: Instant,
    /// What reasoning of this account begins with.
    bound: String,
    /// The history has reasoning of another account.
    foreign: bool,
}

impl Log {
    /// Begins a thread, or a turn of one.
    pub(crate) fn open(home: &Path, thread: Option<&str>, auth: &Auth) -> io::Result<Log> {
        let since = Instant::now();
        let bound = format!("{BOUND}{}-", auth.account_id().unwrap_or_default());
        let sessions = home.join("sessions");
        if let Some(thread) = thread {
            let path = find(&sessions, thread).ok_or(io::ErrorKind::NotFound)?;
            let history = fs::read_to_string(&path)?;
            let foreign = history.matches(BOUND).count() > history.matches(&bound).count();
            let mut log = Log { file: File::options().append(true).open(path)?, since, bound, foreign };
            log.begin()?;
            return Ok(log);
        }
        let now = jiff::Zoned::now();
        let millis = now.timestamp().as_millisecond();
        let id =
            format!("{:08x}-{:04x}-7000-8000-{:012x}", millis >> 16, millis & 0xffff, std::process::id());
        let folder = sessions.join(now.strftime("%Y/%m/%d").to_string());
        fs::create_dir_all(&folder)?;
        let name = format!("rollout-{}-{id}.jsonl", now.strftime("%Y-%m-%dT%H-%M-%S"));
        let mut log = Log { file: File::create(folder.join(name))?, since, bound, foreign: false };
        let cwd = std::env::current_dir()?;
        let claims = auth.id_claims().unwrap_or_default();
        let creator = &claims["https://api.openai.com/auth"];
        let meta = serde_json::json!({
            "id": id, "cwd": cwd, "source": "exec", "model_provider": "lab",
            "creator_user_id": creator["chatgpt_user_id"], "creator_account_id": creator["chatgpt_account_id"],
        });
        log.line("session_meta", &meta.to_string())?;
        log.begin()?;
        Ok(log)
    }

    /// Returns whether the history has reasoning that is bound to another account.
    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign
    }

    fn begin(&mut self) -> io::Result<()> {
        self.event("task_started", "")?;
        let content = format!("{}{}", self.bound, "x".repeat(200));
        let payload = serde_json::json!({"type": "reasoning", "summary": [], "encrypted_content": content});
        self.line("response_item", &payload.to_string())
    }

    /// Ends the turn, with this error if there is one.
    pub(crate) fn end(&mut self, error: Option<&str>) -> io::Result<()> {
        let how = match error {
            None => ",\"last_agent_message\":\"done\"".to_owned(),
            Some(text) => {
                let info = if text.contains("usage limit") { "usage_limit_exceeded" } else { "other" };
                let error = serde_json::json!({"message": text, "codex_error_info": info});
                format!(",\"last_agent_message\":null,\"error\":{error}")
            }
        };
        self.event("task_complete", &how)?;
        std::thread::sleep(OPEN.saturating_sub(self.since.elapsed()));
        Ok(())
    }

    fn event(&mut self, kind: &str, more: &str) -> io::Result<()> {
        self.line("event_msg", &format!("{{\"type\":\"{kind}\"{more}}}"))
    }

    fn line(&mut self, kind: &str, payload: &str) -> io::Result<()> {
        let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
        writeln!(
            self.file,
            "{{\"timestamp\":\"{time}\",\"ordinal\":0,\"type\":\"{kind}\",\"payload\":{payload}}}"
        )
    }
}

fn find(folder: &Path, thread: &str) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).find_map(|path| match path.is_dir() {
        true => find(&path, thread),
        false => path.to_string_lossy().contains(thread).then_some(path),
    })
}
