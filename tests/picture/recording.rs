//! The recording: the first half of the demo, in a terminal.

use std::time::Duration;

use testkit::recording::Recording;
use testkit::{Codex, Pty, World};

use crate::is_kept;
use crate::picking::{self, Stage};

const COLUMNS: u16 = 108;

impl Stage for Recording {
    fn title(&mut self, text: &str) {
        Recording::title(self, text);
    }

    fn run(&mut self, world: &World, program: &str, args: &[&str]) {
        let shown =
            Pty::spawn(picking::command(world, program, args), 24, COLUMNS).finish(Duration::from_secs(30));
        self.command(&format!("{program} {}", args.join(" ")), &crate::times::fixed(&shown));
    }
}

fn record() -> Recording {
    let mut recording = Recording::new(COLUMNS);
    picking::tell(&picking::world(Codex::StandIn), &mut recording);
    recording
}

#[test]
fn recording_is_what_the_demo_shows() {
    // Where the machine was busy, a table may show usage that is some seconds old: then once more.
    let same = (0..3).any(|_| is_kept("docs/demo.svg", &record().svg("A recording of the demo")));
    assert!(same, "docs/demo.svg is not what the demo shows now; see the first lines of main.rs");
}

#[test]
fn recording_takes_about_20_seconds() {
    let seconds = record().seconds();
    assert!((15.0..=25.0).contains(&seconds), "{seconds}");
}
