//! What an account has left: rate-limit windows as data, and their cache. It makes no requests.

pub mod answer;
mod cache;
pub mod forecast;
pub mod history;
pub mod session_log;
mod sharing;
mod window;

pub use cache::{Attempt, ClockAhead, Failure, NO_WAIT, Poll, UsageCache, UsageEntry};
pub use sharing::{SYNC_EVERY, Sent, SessionsElsewhere, Sharing};
pub use window::{
    Credits, ExtraLimit, FIVE_HOURS, Source, Spending, Usage, WEEK, Window, latest, longest, of_length,
    window_name, window_words,
};
