//! A progress line on stderr. Shown on a terminal only, and removed at the end.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// A progress line.
pub(crate) struct Progress(Option<ProgressBar>);

/// Begins a progress line that counts items.
pub(crate) fn progress(what: &'static str) -> Progress {
    begin(what.to_owned(), "{msg} {wide_bar} {pos}/{len}")
}

/// Begins a progress line that counts bytes.
pub(crate) fn download(what: &str) -> Progress {
    begin(super::printable(what), "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}")
}

fn begin(what: String, template: &str) -> Progress {
    if !std::io::stderr().is_terminal() {
        return Progress(None);
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("█▌ "));
    }
    bar.set_message(what);
    Progress(Some(bar))
}

impl Progress {
    /// Shows how much is done.
    pub(crate) fn set(&self, done: usize, total: usize) {
        if let Some(bar) = &self.0 {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
