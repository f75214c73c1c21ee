//! The last turn of a log in a file, and of one that grows: only what is new is read.

use std::fs::File;
use std::io;

use memchr::memmem;

use super::end::{EVENT, HEAD, LastTurn, counts};
use super::scan::read_up_to;

/// How much is in memory at once, bytes.
const PIECE: usize = 64 << 10;

/// The last turn of a log.
///
/// # Errors
/// What reading says.
pub fn last_turn(log: &File) -> io::Result<Option<LastTurn>> {
    let mut reader = Reader::default();
    reader.read(log)?;
    Ok(reader.turn)
}

/// Follows a log. The first read begins at the last turn; later ones at what is new.
#[derive(Debug, Default, Clone)]
pub struct Reader {
    turn: Option<LastTurn>,
    /// Where the first line begins that has not been read; a line without its end has not.
    at: Option<u64>,
}

impl Reader {
    /// The last turn, as of the last read.
    pub fn turn(&self) -> Option<&LastTurn> {
        self.turn.as_ref()
    }

    /// Reads what is new in the log.
    ///
    /// # Errors
    /// What reading says; what was read before stays.
    pub fn read(&mut self, log: &File) -> io::Result<()> {
        let size = log.metadata()?.len();
        if self.at.is_none_or(|at| at > size) {
            // New to us, or another file than before.
            *self = Reader { turn: None, at: Some(last_start(log, size)?) };
        }
        let mut at = self.at.unwrap_or(0);
        let mut piece = vec![0; PIECE];
        while at < size {
            let read = read_up_to(log, &mut piece, at, size)?;
            let Some(last) = memchr::memrchr(b'\n', &piece[..read]) else {
                let Some(end) = line_end(log, at + read as u64, size)? else { break };
                self.long_line(log, &piece[..read], at, end)?;
                at = end + 1;
                self.at = Some(at);
                continue;
            };
            for line in piece[..last].split(|b| *b == b'\n') {
                self.turn = LastTurn::after(self.turn.take(), line);
            }
            at += last as u64 + 1;
            self.at = Some(at);
        }
        Ok(())
    }

    /// A line longer than a piece, of which the beginning is given.
    fn long_line(&mut self, log: &File, head: &[u8], at: u64, end: u64) -> io::Result<()> {
        if !counts(head) {
            return Ok(());
        }
        let length = end - at;
        self.turn = if length > EVENT as u64 {
            LastTurn::after_long(self.turn.take(), head)
        } else {
            let mut line = vec![0; length as usize];
            let read = read_up_to(log, &mut line, at, end)?;
            LastTurn::after(self.turn.take(), &line[..read])
        };
        Ok(())
    }
}

/// Where the line ends that goes on at `at`, if it does.
fn line_end(log: &File, mut at: u64, size: u64) -> io::Result<Option<u64>> {
    let mut piece = vec![0; PIECE];
    while at < size {
        let read = read_up_to(log, &mut piece, at, size)?;
        if let Some(end) = memchr::memchr(b'\n', &piece[..read]) {
            return Ok(Some(at + end as u64));
        }
        if read == 0 {
            break;
        }
        at += read as u64;
    }
    Ok(None)
}

/// Where the line begins that says that the last turn began; 0 if none does.
fn last_start(log: &File, size: u64) -> io::Result<u64> {
    let started = memmem::Finder::new(b"\"payload\":{\"type\":\"task_started\"");
    let mut piece = vec![0; PIECE];
    let mut end = size;
    loop {
        // Two pieces share so much that a line's beginning and what is looked for are together in one of them.
        let start = end.saturating_sub((PIECE - HEAD) as u64);
        let read = read_up_to(log, &mut piece, start, size)?;
        let lines = &piece[..read];
        if let Some(found) = started.find_iter(lines).last() {
            let begins = memchr::memrchr(b'\n', &lines[..found]).map(|newline| newline + 1);
            match begins {
                Some(begins) => return Ok(start + begins as u64),
                None if start == 0 => return Ok(0),
                // Its line begins in the piece before.
                None => {}
            }
        }
        if start == 0 {
            return Ok(0);
        }
        end = start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codex::rollout::end::TurnState;
    use crate::codex::rollout::end::tests::{fold, recorded};
    use std::io::{Seek, SeekFrom, Write};

    fn file(text: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        file
    }

    #[test]
    fn a_log_is_read_from_its_last_turn_on_however_far_back_that_began() {
        let filler = |length: usize| {
            format!(
                "{{\"timestamp\":\"t\",\"type\":\"response_item\",\"payload\":{{\"type\":\"x\",\"o\":\"{}\"}}}}\n",
                "o".repeat(length)
            )
        };
        let ended = recorded("0.169.0", "mid-turn");
        let (start, rest) = ended.split_once('\n').unwrap();
        let seams = (PIECE - 3 * HEAD..PIECE + HEAD).step_by(11);
        for length in [0, 100, 5 * PIECE].into_iter().chain(seams) {
            let between = format!("{}\n{}{}{}", start, filler(length), filler(10), rest);
            let text = [recorded("0.169.0", "stream"), filler(200), between, filler(length)].concat();
            let turn = last_turn(&file(text.as_bytes())).unwrap().unwrap();
            assert_eq!(turn.state, TurnState::Limit, "{length}");
            let begins = text.rfind("\"task_started\"").unwrap();
            let line = text[..begins].rfind('\n').unwrap() as u64 + 1;
            assert_eq!(last_start(&file(text.as_bytes()), text.len() as u64).unwrap(), line, "{length}");
        }
        assert_eq!(last_turn(&file(b"")).unwrap(), None);
    }

    #[test]
    fn a_log_is_followed_as_it_grows() {
        let text = recorded("0.169.0", "mid-turn");
        let mut log = file(b"");
        let mut reader = Reader::default();
        for (at, byte) in text.bytes().enumerate() {
            log.write_all(&[byte]).unwrap();
            if at % 7 == 0 || byte == b'\n' {
                reader.read(&log).unwrap();
            }
        }
        assert_eq!(reader.turn().unwrap().state, TurnState::Limit);
        assert_eq!(reader.turn(), fold(&text).as_ref());
        // Another, shorter log at the same place.
        log.set_len(0).unwrap();
        log.seek(SeekFrom::Start(0)).unwrap();
        log.write_all(recorded("0.140.0", "aborted").as_bytes()).unwrap();
        reader.read(&log).unwrap();
        assert_eq!(reader.turn().unwrap().state, TurnState::Aborted);
    }

    #[test]
    fn an_end_with_a_long_answer_is_an_end() {
        for length in [PIECE, EVENT + PIECE] {
            let answer = "a".repeat(length);
            let text = recorded("0.169.0", "answered").replace("done by alice", &answer);
            let turn = last_turn(&file(text.as_bytes())).unwrap().unwrap();
            assert_eq!(turn.state, TurnState::Answered, "{length}");
        }
    }
}
