//! One line of a session log: which of its bytes are bound to the account, and what takes their place. Reads no file.
//!
//! What was seen with the real Codex (0.140.0, 0.159.3, 0.169.0), and is relied on:
//! - a `response_item` of payload type `other` is passed over, and so is a compaction whose line became one: the
//!   history before it counts again;
//! - a tool output with a part that Codex cannot read counts as none, and the call as aborted; so a sealed part becomes
//!   a text, never null;
//! - assistant messages and calls need no `id`, except image generations (0.140.0).

use std::ops::Range;

use super::lexer::{KEPT, Lexer, Token};

/// Bytes of the file that are to become others: `head`, then blanks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) place: Range<u64>,
    pub(super) head: Vec<u8>,
    pub(super) what: What,
}

/// What an edit takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A whole line: reasoning, a compaction.
    Line,
    /// A part of a tool's output or of an agent's message.
    Part,
    /// The id of an answer or a call.
    Id,
}

/// What is to be done about a line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) edits: Vec<Edit>,
    /// Something sealed in a place or shape that is not known; left alone.
    pub(super) unknown: Option<String>,
}

/// Stands where a sealed part was. Shorter than any sealed part there is.
const GONE: &str = r#"{"type":"input_text","text":"[not available]"}"#;

/// Items that are nothing but what is sealed in them.
const SEALED: [&str; 4] = ["reasoning", "compaction", "compaction_summary", "context_compaction"];

/// Calls whose id Codex can do without.
const CALLS: [&str; 5] =
    ["function_call", "custom_tool_call", "local_shell_call", "web_search_call", "tool_search_call"];

/// The names of fields that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Timestamp,
    Ordinal,
    Type,
    Payload,
    Role,
    Id,
    Parts,
    Replacement,
    Sealed,
    OtherSealed,
    Other,
}

impl Name {
    fn of(key: &[u8]) -> Name {
        match key {
            b"timestamp" => Name::Timestamp,
            b"ordinal" => Name::Ordinal,
            b"type" => Name::Type,
            b"payload" => Name::Payload,
            b"role" => Name::Role,
            b"id" => Name::Id,
            b"output" | b"content" => Name::Parts,
            b"replacement_history" => Name::Replacement,
            b"encrypted_content" => Name::Sealed,
            key if key.starts_with(b"encrypted_") => Name::OtherSealed,
            _ => Name::Other,
        }
    }
}

/// An open object or array.
#[derive(Debug)]
struct Frame {
    began: u64,
    /// The field whose value is being read; of an array that of the array itself.
    name: Name,
    name_began: u64,
    comma: Option<u64>,
    kind: String,
    assistant: bool,
    /// The field `id`, with a comma beside it.
    id: Option<Range<u64>>,
    id_ended: bool,
    /// The value of its `encrypted_content`.
    sealed: Option<Range<u64>>,
}

impl Frame {
    fn new(began: u64, name: Name) -> Frame {
        Frame {
            began,
            name,
            name_began: began,
            comma: None,
            kind: String::new(),
            assistant: false,
            id: None,
            id_ended: false,
            sealed: None,
        }
    }

    /// Whether the id of such an item points to reasoning that another account cannot see.
    fn id_points_back(&self) -> bool {
        self.assistant && self.kind == "message" || CALLS.contains(&self.kind.as_str())
    }
}

/// A line that is being read.
#[derive(Debug)]
pub(super) struct Line {
    lexer: Lexer,
    body: Body,
}

#[derive(Debug, Default)]
struct Body {
    began: u64,
    open: Vec<Frame>,
    timestamp: Option<String>,
    ordinal: Option<String>,
    kind: String,
    payload: Option<Frame>,
    parts: Vec<Range<u64>>,
    /// Ids of the items that a compaction has kept.
    ids: Vec<Range<u64>>,
    sealed: bool,
    elsewhere: Option<String>,
}

impl Line {
    /// A line that begins at this place of the file.
    pub(super) fn new(began: u64) -> Line {
        Line { lexer: Lexer::new(began), body: Body { began, ..Body::default() } }
    }

    /// Reads a piece of the line.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let Line { lexer, body } = self;
        lexer.feed(bytes, |token, place| body.take(token, place));
    }

    /// The line ended before the byte at `end`.
    pub(super) fn finish(self, end: u64) -> Finding {
        if self.lexer.whole() { self.body.judge(end) } else { unknown("a line that is no JSON") }
    }
}

fn unknown(what: impl Into<String>) -> Finding {
    Finding { edits: Vec::new(), unknown: Some(what.into()) }
}

impl Body {
    fn take(&mut self, token: Token<'_>, place: Range<u64>) {
        match token {
            Token::OpenObject | Token::OpenArray => {
                let name = self.open.last().map_or(Name::Other, |frame| frame.name);
                self.open.push(Frame::new(place.start, name));
            }
            Token::CloseObject => self.close(place.end),
            Token::CloseArray => drop(self.open.pop()),
            Token::Comma => {
                if let Some(frame) = self.open.last_mut() {
                    frame.comma = Some(place.start);
                    if let Some(id) = frame.id.as_mut().filter(|_| frame.id_ended) {
                        id.end = place.end;
                        frame.id_ended = false;
                    }
                }
            }
            Token::Key(key) => {
                if let Some(frame) = self.open.last_mut() {
                    (frame.name, frame.name_began) = (Name::of(key), place.start);
                }
            }
            Token::Text(text) => self.text(text, place),
            Token::Word(word) => {
                if self.open.len() == 1 && self.open[0].name == Name::Ordinal {
                    self.ordinal = Some(String::from_utf8_lossy(word).into_owned());
                }
            }
        }
    }

    fn text(&mut self, text: &[u8], place: Range<u64>) {
        let depth = self.open.len();
        let Some(frame) = self.open.last_mut() else { return };
        let owned = || String::from_utf8_lossy(text).into_owned();
        match frame.name {
            Name::Timestamp if depth == 1 && text.len() < KEPT => self.timestamp = Some(owned()),
            Name::Type if depth == 1 => self.kind = owned(),
            Name::Type => frame.kind = owned(),
            Name::Role => frame.assistant = text == b"assistant",
            Name::Id => {
                // The comma before goes, too, unless one follows.
                frame.id = Some(frame.name_began..place.end);
                frame.id_ended = true;
            }
            Name::Sealed => {
                self.sealed = true;
                frame.sealed = Some(place);
            }
            Name::OtherSealed => self.elsewhere = Some("encrypted arguments of a call".to_owned()),
            _ => {}
        }
    }

    fn close(&mut self, end: u64) {
        let Some(mut frame) = self.open.pop() else { return };
        if frame.id_ended
            && let (Some(id), Some(comma)) = (&mut frame.id, frame.comma)
        {
            id.start = comma;
        }
        let path: Vec<Name> = self.open.iter().map(|above| above.name).collect();
        match path[..] {
            [Name::Payload] => self.payload = Some(frame),
            [Name::Payload, Name::Parts, Name::Parts] if frame.sealed.is_some() => {
                if frame.kind == "encrypted_content" {
                    self.parts.push(frame.began..end);
                } else {
                    self.elsewhere = Some(format!("encrypted content in a part {:?}", frame.kind));
                }
            }
            [Name::Payload, Name::Replacement, Name::Replacement] if frame.id_points_back() => {
                self.ids.extend(frame.id);
            }
            _ if frame.sealed.is_some() => {
                self.elsewhere = Some("encrypted content in an unknown place".to_owned())
            }
            _ => {}
        }
    }

    fn judge(self, end: u64) -> Finding {
        let Some(payload) = &self.payload else { return self.nothing_but(None) };
        match self.kind.as_str() {
            "response_item" if payload.sealed.is_some() && SEALED.contains(&payload.kind.as_str()) => {
                self.whole(end)
            }
            "compacted" if self.sealed => self.whole(end),
            "response_item" => self.item(payload),
            "compacted" => {
                let edits =
                    self.ids.into_iter().map(|place| Edit { place, head: Vec::new(), what: What::Id });
                Finding { edits: edits.collect(), unknown: self.elsewhere }
            }
            // Delivered as a message of an agent, whose text is beside it (0.140.0; optional there).
            "inter_agent_communication" => {
                let null = |place| Edit { place, head: b"null".to_vec(), what: What::Part };
                Finding {
                    edits: payload.sealed.clone().map(null).into_iter().collect(),
                    unknown: self.elsewhere,
                }
            }
            // Events are for the screen, not for the service.
            "event_msg" => Finding::default(),
            kind => {
                let what = self.sealed.then(|| format!("encrypted content in a {kind:?}"));
                self.nothing_but(what)
            }
        }
    }

    fn nothing_but(self, what: Option<String>) -> Finding {
        Finding { edits: Vec::new(), unknown: what.or(self.elsewhere) }
    }

    fn item(&self, payload: &Frame) -> Finding {
        let mut finding = Finding { edits: Vec::new(), unknown: self.elsewhere.clone() };
        let kind = payload.kind.as_str();
        if payload.sealed.is_some() {
            finding.unknown = Some(format!("encrypted content in a {kind:?}"));
        }
        let known = kind.ends_with("_output") || kind == "agent_message";
        if !known && !self.parts.is_empty() {
            finding.unknown = Some(format!("encrypted content in a part of a {kind:?}"));
        }
        for place in self.parts.iter().filter(|_| known).cloned() {
            if place.end - place.start < GONE.len() as u64 {
                finding.unknown = Some("encrypted content too short to be any".to_owned());
                continue;
            }
            finding.edits.push(Edit { place, head: GONE.as_bytes().to_vec(), what: What::Part });
        }
        if payload.id_points_back()
            && let Some(place) = payload.id.clone()
        {
            finding.edits.push(Edit { place, head: Vec::new(), what: What::Id });
        }
        finding
    }

    /// The whole line becomes one that says nothing, at the same place in time and order.
    fn whole(self, end: u64) -> Finding {
        let Some(timestamp) = &self.timestamp else { return unknown("an item without a time") };
        let ordinal =
            self.ordinal.as_ref().map_or_else(String::new, |ordinal| format!(r#""ordinal":{ordinal},"#));
        let head = format!(
            r#"{{"timestamp":"{timestamp}",{ordinal}"type":"response_item","payload":{{"type":"other"}}}}"#
        );
        if head.len() as u64 > end - self.began {
            return unknown("encrypted content too short to be any");
        }
        Finding {
            edits: vec![Edit { place: self.began..end, head: head.into_bytes(), what: What::Line }],
            unknown: None,
        }
    }
}

#[cfg(test)]
mod tests;
