//! A thread's session log, beyond its first line: how its last turn ended, and what in it is bound to the account that
//! ran it.

mod blank;
mod change;
mod end;
mod follow;
mod lexer;
mod line;
mod record;
mod scan;
mod writer_lock;

pub use blank::{Blanked, NotBlanked, Quiet, blank, complete, restore};
pub use end::{EndedByLimit, LastTurn, TurnState, says_limit};
pub use follow::{Reader, last_turn};
pub use record::log_of_blanked;
pub use writer_lock::{Taken, WriterLock};

#[cfg(test)]
mod tests;
