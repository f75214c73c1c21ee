//! How the last turn of a thread stands, by the events at the end of its log. Reads no file.
//!
//! What is a limit, and what only looks like one, was seen with the real Codex (0.140.0, 0.159.3, 0.169.0): 0.140 never
//! says why a turn ended; a turn that is served from credits reports 100 % as well, and so does one that a broken network
//! ends.

use memchr::memmem;
use serde::Deserialize;
use serde_json::Value;

use crate::time;

/// The kind of an event stands in the line's first bytes.
pub(super) const HEAD: usize = 256;
/// No event that counts is longer, except by the answer that it repeats.
pub(super) const EVENT: usize = 1 << 20;

/// The last turn of a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastTurn {
    /// How it stands.
    pub state: TurnState,
    /// Codex's id of it.
    pub turn_id: Option<String>,
    /// When that became so, Unix nanoseconds by the clock of the machine that ran it.
    pub at: i64,
    /// The newest report of the main limit in this turn says that a window is full.
    pub full: bool,
    /// The same report says that there are credits, or no limits at all.
    pub credits: bool,
}

/// How a turn stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnState {
    /// It has no end yet. (Or never will: Codex was killed.)
    InFlight,
    /// It ended with an answer.
    Answered,
    /// It was interrupted.
    Aborted,
    /// It ended with the usage limit.
    Limit,
    /// It ended with an error of another kind whose words are the usage limit's.
    LimitInWords,
    /// The service would not take the history: it is bound to another account.
    Foreign,
    /// It ended with any other error.
    Failed,
    /// It ended without an answer, and nothing says why.
    Unanswered {
        /// Whether this Codex would have said why (0.159 and later).
        would_say: bool,
    },
}

/// Whether a turn ended with the usage limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedByLimit {
    /// It did.
    Yes,
    /// It did if the service says now that the account is at its limit.
    Confirm,
    /// It did not.
    No,
}

impl LastTurn {
    /// Whether this turn ended with the usage limit. `service` is whether Codex talks to OpenAI's own service, and not
    /// to a model provider that the user has configured.
    pub fn ended_by_limit(&self, service: bool) -> EndedByLimit {
        // With credits one goes on beyond a full window; another provider has limits of its own.
        let plain = service && !self.credits;
        match self.state {
            TurnState::Limit => EndedByLimit::Yes,
            TurnState::LimitInWords if plain => EndedByLimit::Yes,
            TurnState::Unanswered { would_say: false } if plain && self.full => EndedByLimit::Confirm,
            _ => EndedByLimit::No,
        }
    }

    /// Returns its name, also where Codex gives it none.
    pub fn name(&self) -> String {
        self.turn_id.clone().unwrap_or_else(|| self.at.to_string())
    }

    /// The last turn, when `before` was it and the log goes on with this line (without its end).
    pub fn after(before: Option<LastTurn>, line: &[u8]) -> Option<LastTurn> {
        let Some(kind) = kind(line) else { return before };
        let Ok(line) = serde_json::from_slice::<Line>(line) else { return before };
        let (payload, would_say) = (line.payload, line.ordinal.is_some());
        let turn = |before: Option<LastTurn>, state| {
            let (id, full, credits) = before.map_or((None, false, false), |b| (b.turn_id, b.full, b.credits));
            let at = time::parse_rfc3339_nanos(&line.timestamp).unwrap_or(0);
            Some(LastTurn { state, turn_id: payload.turn_id.clone().or(id), at, full, credits })
        };
        match kind {
            Kind::Started => turn(None, TurnState::InFlight),
            Kind::Aborted => turn(before, TurnState::Aborted),
            Kind::Complete => turn(before, payload.ending(would_say)),
            // Other limits are those of single models.
            Kind::Count => {
                match payload.rate_limits.filter(|l| l.limit_id.as_deref().is_none_or(|id| id == "codex")) {
                    Some(limits) => before.map(|turn| limits.in_turn(turn)),
                    None => before,
                }
            }
        }
    }

    /// The same for a line of which only the beginning is known, since it is longer than [`EVENT`]: the end of a turn is
    /// that long only by the answer that it repeats.
    pub(super) fn after_long(before: Option<LastTurn>, head: &[u8]) -> Option<LastTurn> {
        let turn = before?;
        Some(if kind(head) == Some(Kind::Complete) {
            LastTurn { state: TurnState::Answered, ..turn }
        } else {
            turn
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Started,
    Complete,
    Aborted,
    Count,
}

/// How the line of an event begins, up to its kind.
const EVENT_MSG: &[u8] = b"\"type\":\"event_msg\",\"payload\":{\"type\":\"";

/// Returns whether a line is an event that counts, by its beginning alone.
pub(super) fn counts(line: &[u8]) -> bool {
    kind(line).is_some()
}

/// What kind of event a line is, if it is one that counts, by its beginning alone.
fn kind(line: &[u8]) -> Option<Kind> {
    let head = &line[..line.len().min(HEAD)];
    let name = &head[memmem::find(head, EVENT_MSG)? + EVENT_MSG.len()..];
    match name.split(|b| *b == b'"').next()? {
        b"task_started" | b"turn_started" => Some(Kind::Started),
        b"task_complete" | b"turn_complete" => Some(Kind::Complete),
        b"turn_aborted" => Some(Kind::Aborted),
        b"token_count" => Some(Kind::Count),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Line {
    timestamp: String,
    /// Written from 0.159 on, as is the error of a turn.
    ordinal: Option<Value>,
    payload: Payload,
}

#[derive(Deserialize)]
struct Payload {
    turn_id: Option<String>,
    last_agent_message: Option<Value>,
    error: Option<TurnError>,
    rate_limits: Option<Limits>,
}

#[derive(Deserialize)]
struct TurnError {
    #[serde(default)]
    message: String,
    /// A word, or an object with one field.
    codex_error_info: Option<Value>,
}

#[derive(Deserialize)]
struct Limits {
    limit_id: Option<String>,
    primary: Option<Window>,
    secondary: Option<Window>,
    credits: Option<Credits>,
}

#[derive(Deserialize)]
struct Window {
    used_percent: f64,
}

#[derive(Deserialize)]
struct Credits {
    #[serde(default)]
    has_credits: bool,
    #[serde(default)]
    unlimited: bool,
}

impl Payload {
    fn ending(&self, would_say: bool) -> TurnState {
        match &self.error {
            Some(error) => error.state(),
            None if self.last_agent_message.is_some() => TurnState::Answered,
            None => TurnState::Unanswered { would_say },
        }
    }
}

/// Whether a text has the words of the usage limit.
pub fn says_limit(text: &[u8]) -> bool {
    ["usage limit has been reached", "hit your usage limit"]
        .iter()
        .any(|words| memmem::find(text, words.as_bytes()).is_some())
}

impl TurnError {
    fn state(&self) -> TurnState {
        let info = self.codex_error_info.as_ref().and_then(Value::as_str);
        let says = |words: &str| self.message.contains(words);
        if info == Some("usage_limit_exceeded") {
            TurnState::Limit
        } else if says("encrypted content") && says("could not be") {
            TurnState::Foreign
        } else if matches!(info, Some("other" | "rate_limit_exceeded")) && says_limit(self.message.as_bytes())
        {
            TurnState::LimitInWords
        } else {
            TurnState::Failed
        }
    }
}

impl Limits {
    fn in_turn(&self, turn: LastTurn) -> LastTurn {
        let full = |window: &Option<Window>| window.as_ref().is_some_and(|w| w.used_percent >= 100.0);
        LastTurn {
            full: full(&self.primary) || full(&self.secondary),
            credits: self.credits.as_ref().is_some_and(|c| c.has_credits || c.unlimited),
            ..turn
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::path::Path;

    /// The last lines of a real log, recorded against the stand-in service.
    pub(in crate::codex::rollout) fn recorded(version: &str, case: &str) -> String {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/rollouts/ends");
        let path = data.join(version).join(format!("{case}.jsonl"));
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    pub(in crate::codex::rollout) fn fold(text: &str) -> Option<LastTurn> {
        text.lines().fold(None, |turn, line| LastTurn::after(turn, line.as_bytes()))
    }

    #[test]
    fn turns_end_as_they_really_did() {
        use TurnState::*;
        let silent = Unanswered { would_say: false };
        // Case, its state, whether a window was full, and whether that is a limit: 0.140, then later ones.
        let cases = [
            ("answered", Answered, Answered, false, EndedByLimit::No, EndedByLimit::No),
            ("first", silent, Limit, true, EndedByLimit::Confirm, EndedByLimit::Yes),
            ("mid-turn", silent, Limit, true, EndedByLimit::Confirm, EndedByLimit::Yes),
            ("cut", silent, Limit, true, EndedByLimit::Confirm, EndedByLimit::Yes),
            ("stream", silent, LimitInWords, true, EndedByLimit::Confirm, EndedByLimit::Yes),
            ("stream-rate", silent, LimitInWords, true, EndedByLimit::Confirm, EndedByLimit::Yes),
            ("foreign", silent, Foreign, false, EndedByLimit::No, EndedByLimit::No),
            ("credits", Answered, Answered, true, EndedByLimit::No, EndedByLimit::No),
            ("network", silent, Failed, true, EndedByLimit::No, EndedByLimit::No),
            ("aborted", Aborted, Aborted, false, EndedByLimit::No, EndedByLimit::No),
            ("unanswered", silent, Unanswered { would_say: true }, false, EndedByLimit::No, EndedByLimit::No),
        ];
        for (case, old, new, full, old_limit, new_limit) in cases {
            for (version, state, limit) in
                [("0.140.0", old, old_limit), ("0.159.3", new, new_limit), ("0.169.0", new, new_limit)]
            {
                let text = recorded(version, case);
                let turn = fold(&text).unwrap();
                assert_eq!((turn.state, turn.full), (state, full), "{version} {case}");
                assert_eq!(turn.ended_by_limit(true), limit, "{version} {case}");
                assert_eq!(turn.credits, case == "credits" || case == "network", "{version} {case}");
                let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
                assert_eq!(turn.turn_id.as_deref(), last["payload"]["turn_id"].as_str(), "{version} {case}");
                assert_eq!(Some(turn.at), time::parse_rfc3339_nanos(last["timestamp"].as_str().unwrap()));

                let (before, _) = text.trim_end().rsplit_once('\n').unwrap();
                assert_eq!(fold(before).unwrap().state, InFlight, "{version} {case}, before its end");
            }
        }
    }

    #[test]
    fn with_another_provider_or_credits_only_the_plain_word_counts() {
        let plain = fold(&recorded("0.169.0", "mid-turn")).unwrap();
        assert_eq!(plain.ended_by_limit(false), EndedByLimit::Yes);
        for (version, case) in [("0.169.0", "stream"), ("0.140.0", "mid-turn")] {
            let turn = fold(&recorded(version, case)).unwrap();
            assert_eq!(turn.ended_by_limit(false), EndedByLimit::No, "{version}");
            assert_eq!(
                LastTurn { credits: true, ..turn }.ended_by_limit(true),
                EndedByLimit::No,
                "{version}"
            );
        }
        assert_eq!(LastTurn { credits: true, ..plain }.ended_by_limit(true), EndedByLimit::Yes);
    }

    #[test]
    fn the_limit_of_a_single_model_is_another() {
        let text =
            recorded("0.140.0", "mid-turn").replace(r#""limit_id":"codex""#, r#""limit_id":"codex_tiny""#);
        assert_eq!(fold(&text).unwrap().ended_by_limit(true), EndedByLimit::No);
        let old = recorded("0.140.0", "mid-turn").replace(r#""limit_id":"codex","#, "");
        assert_eq!(fold(&old).unwrap().ended_by_limit(true), EndedByLimit::Confirm);
    }

    #[test]
    fn a_new_turn_forgets_the_one_before() {
        let text = recorded("0.159.3", "mid-turn") + &recorded("0.159.3", "answered");
        let turn = fold(&text).unwrap();
        assert_eq!((turn.state, turn.full), (TurnState::Answered, false));
        let text = recorded("0.159.3", "answered") + recorded("0.159.3", "stream").lines().next().unwrap();
        assert_eq!(fold(&text).unwrap().state, TurnState::InFlight);
    }

    #[test]
    fn garbage_and_other_lines_change_nothing() {
        let good = fold(&recorded("0.169.0", "mid-turn"));
        for line in [
            "",
            "{",
            "garbage",
            r#"{"timestamp":"t","type":"event_msg","payload":{"type":"task_complete""#,
            r#"{"timestamp":"t","type":"response_item","payload":{"type":"task_started"}}"#,
            r#"{"timestamp":"t","type":"event_msg","payload":{"type":"agent_message","message":"\"type\":\"event_msg\",\"payload\":{\"type\":\"task_started\""}}"#,
        ] {
            assert_eq!(LastTurn::after(good.clone(), line.as_bytes()), good, "{line}");
        }
        assert_eq!(fold("x\ny"), None);
    }
}
