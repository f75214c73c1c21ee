//! A launch in the log: its account, and why. One small line, in what the launch writes anyway.

use super::placement::Placement;
use super::{Launch, Line, Locked};
use crate::account::AccountId;
use crate::journal::{self, Entry, Event};
use crate::paths::PoolPaths;
use crate::store::path_key;

impl Launch<'_> {
    /// Notes the launch, with what was said about the choice of its account and then about its place. `live`: the account
    /// that was in the main home before.
    pub(super) fn note(
        &self,
        locked: &mut Locked<'_>,
        placement: &Placement,
        live: Option<&AccountId>,
        (chosen, placed): (&[Line], &[Line]),
    ) {
        let main_home = placement.home == *locked.main_home;
        let changed = main_home && live != placement.account.as_ref();
        // That another account than the chosen one has the launch is said with its place.
        let instead = placed.iter().rev().find(|line| matches!(line, Line::Wrong(_)));
        let why = match instead.or(chosen.last()) {
            Some(Line::Wrong(text) | Line::Switched(text) | Line::Verbose(text)) => text,
            None if self.named().is_some() => "it was asked for by name",
            None if placement.account.is_none() => "no account of the pool can be used",
            None if placement.account == locked.pool.state().pin => "it is pinned",
            None if self.round.is_some() => "it goes on after a limit",
            None if changed => "it was picked",
            None => "it was live already",
        };
        let mut entry = self.entry_of(Event::Launch, placement.account.as_ref()).why(why);
        entry.from = live.filter(|_| changed).cloned();
        entry.own_home = !main_home;
        entry.pid = locked.processes.me.as_ref().map(|me| me.pid);
        locked.pool.note(entry);
    }

    /// Writes that a launch failed, or went on without the pool, whose lock it may not have.
    pub(super) fn note_refusal(&self, paths: Option<&PoolPaths>, why: &str) {
        if let Some(paths) = paths.filter(|paths| paths.root().is_dir()) {
            let _ = journal::append(paths, None, &[self.entry_of(Event::Refusal, None).why(why)]);
        }
    }

    fn entry_of(&self, event: Event, account: Option<&AccountId>) -> Entry {
        Entry {
            command: Some(self.command()),
            folder: self.env().cwd.as_deref().map(path_key),
            ..Entry::new(self.env().now, event, account)
        }
    }
}
