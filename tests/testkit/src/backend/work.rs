//! Work over several steps, and limits in the middle of it. The model goes by the history that it is sent: the next
//! step is the one after the last whose output it sees, whichever account asks.

use serde_json::Value;

use super::bound::{is_output, items, sealed_parts, unseal};
use super::state::State;
use super::{Backend, bound};

/// What a step's command prints when it is through; the number follows.
const DONE: &str = "finished step ";

/// A task that takes several tool calls, one after the other.
#[derive(Clone, Debug)]
pub struct Task {
    steps: usize,
    command: String,
}

impl Task {
    /// Returns that many steps. Each adds a line `<step> <user>` to `steps.txt` in the working folder.
    pub fn new(steps: usize) -> Task {
        Task::running(steps, "echo {step} {user} >> steps.txt")
    }

    /// Returns that many steps, each this command line, in which `{step}` and `{user}` are put in.
    pub fn running(steps: usize, command: &str) -> Task {
        Task { steps, command: command.to_owned() }
    }

    /// Returns the command line of the step that follows what a request's history shows; `None` when all are done.
    pub(crate) fn next(&self, body: &Value, user: &str) -> Option<String> {
        let step = steps_done(body) + 1;
        let command = self.command.replace("{step}", &step.to_string()).replace("{user}", user);
        (step <= self.steps).then(|| format!("{command}; echo {DONE}{step}"))
    }
}

/// Returns how many steps a history shows as done: by their output, or by what a compaction has kept.
pub(crate) fn steps_done(body: &Value) -> usize {
    items(body)
        .filter_map(|item| if is_output(item) { in_output(item) } else { in_compaction(item) })
        .max()
        .unwrap_or(0)
}

/// Returns the note of a compaction from which the model goes on.
pub(crate) fn note(steps: usize) -> String {
    format!("{DONE}{steps}")
}

fn in_output(item: &Value) -> Option<usize> {
    last_number(&item["output"].to_string())
}

fn in_compaction(item: &Value) -> Option<usize> {
    sealed_parts(item).into_iter().filter_map(|sealed| last_number(&unseal(sealed)?.1)).max()
}

fn last_number(text: &str) -> Option<usize> {
    let digits = text.rsplit_once(DONE)?.1;
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// How the service tells an account that its limit is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The next request is refused: 429 `usage_limit_reached`, on a websocket an error frame with that status.
    Refuse,
    /// The next answer ends right after its items, without `response.completed`; then as [`Limit::Refuse`].
    Cut,
    /// The next request, and every later one, is accepted and ends with `response.failed` of that code in the stream.
    InStream(String),
    /// The next request ends so; then as [`Limit::Refuse`].
    InStreamOnce(String),
}

/// A limit that is still to come.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// Answers that are given before.
    left: usize,
    limit: Limit,
}

/// What becomes of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Completed,
    Cut,
    /// Nothing but `response.failed` with that code.
    Failed(String),
}

impl Backend {
    /// Gives the model a task. It works on it for every user, and says `done by <user>` at the end. `None`: it greets.
    pub fn give_task(&self, task: impl Into<Option<Task>>) {
        self.state().task = task.into();
    }

    /// Answers a turn with that prompt with `hello from <user>` in spite of a task: whoever else asks at the same time works
    /// on the task.
    pub fn greet(&self, prompt: &str) {
        self.state().greeting = Some(prompt.to_owned());
    }

    /// Lets every answer begin with a reasoning item, sealed for the account that asks.
    pub fn think(&self) {
        self.state().thinks = true;
    }

    /// That user's limit is reached after so many more answers. Its usage is 100 % from then on, until
    /// [`Backend::set_usage`] says otherwise.
    pub fn limit_after(&self, user: impl AsRef<str>, answers: usize, limit: Limit) {
        self.state().user_mut(user.as_ref()).limit = Some(Pending { left: answers, limit });
    }

    /// The `error.code` with which foreign encrypted content is refused (default `invalid_encrypted_content`).
    pub fn set_encrypted_code(&self, code: Option<&str>) {
        self.state().encrypted_code = code.map(str::to_owned);
    }

    /// Returns something sealed for that user's account, as the service would give it.
    pub fn sealed_for(&self, user: impl AsRef<str>) -> String {
        let mut state = self.state();
        let (number, account) = (state.count(), state.user_mut(user.as_ref()).spec.account_id.clone());
        bound::seal(&account, number, "")
    }
}

/// Counts an answer of that user and says what becomes of it; one that is [`Ending::Completed`] may still be refused,
/// by the usage.
pub(crate) fn ending(state: &mut State, user: &str) -> Ending {
    let Some(user) = state.find_user(user) else { return Ending::Completed };
    let Some(pending) = &mut user.limit else { return Ending::Completed };
    if pending.left > 0 {
        pending.left -= 1;
        return Ending::Completed;
    }
    let limit = pending.limit.clone();
    user.usage.exhaust();
    if !matches!(limit, Limit::InStream(_)) {
        // From now on the usage refuses.
        user.limit = None;
    }
    match limit {
        Limit::Refuse => Ending::Completed,
        Limit::Cut => Ending::Cut,
        Limit::InStream(code) | Limit::InStreamOnce(code) => Ending::Failed(code),
    }
}
