//! `man`: prints manual pages, made from the text of `--help` and the tables below.

use std::fs::OpenOptions;
use std::io::{self, Write};

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use codex_pool_core::{Error, Result, files};

use crate::cli::{Cli, ManArgs};
use crate::ui;

/// The variables that the programs read.
const ENVIRONMENT: [(&str, &str); 13] = [
    ("CODEX_HOME", "Codex's folder; its auth.json is the main home. Default: ~/.codex."),
    ("CODEX_POOL_HOME", "The pool's folder. Default: ~/.codex-pool."),
    ("CODEX_POOL=off", "The shim steps aside: Codex starts with what is there."),
    ("CODEX_POOL_ACCOUNT", "The account that a launch must use, named as for `codex-pool use`."),
    ("CODEX_POOL_CODEX", "The real Codex, instead of the first one on PATH."),
    ("CODEX_POOL_VERBOSE=1", "One line on stderr about the pick."),
    ("CODEX_POOL_CARRY_ON=0", "Work ends at its account's limit; 1: it goes on with another account."),
    ("CODEX_POOL_CARRY_WAIT=6h", "How long work waits for a reset when no other account can go on."),
    ("CODEX_POOL_SHARE_URL", "The database's address, for `codex-pool share init` and `rotate`."),
    ("CODEX_POOL_QUIET=1", "No line on stderr unless the launch fails."),
    ("CODEX_POOL_RELEASES", "Where `codex-pool update` finds releases (https, or http on this machine)."),
    ("CODEX_CA_CERTIFICATE, SSL_CERT_FILE", "More certificates to trust, in PEM."),
    ("HTTPS_PROXY, ALL_PROXY, NO_PROXY, NO_COLOR, CLICOLOR_FORCE, TZ", "As everywhere."),
];

/// The files, in the pool's folder unless they begin with a tilde.
const FILES: [(&str, &str); 11] = [
    ("accounts.json", "The accounts, without their credentials."),
    ("auth/", "Each account's credentials, readable by you alone."),
    ("usage.json", "What was last known of the limits; a cache."),
    ("state.json", "The pin, and what each home held when last seen."),
    ("native/", "What npm's launchers of Codex start, so that it starts without Node; a cache."),
    ("config.toml", "Settings; optional."),
    ("share.toml", "Of a pool on several machines: its keys and the address of its database."),
    ("homes/", "The accounts' own Codex homes, for sessions on two accounts at once."),
    ("lost+found/", "Documents that were replaced or not understood, kept for 30 days."),
    ("bin/codex", "The shim that stands in for Codex on PATH."),
    ("~/.codex/auth.json", "The live login: what Codex, editors and everything else read."),
];

pub(crate) fn run(args: &ManArgs) -> Result<()> {
    let mut root = Cli::command();
    root.build();
    let Some(dir) = &args.dir else {
        ui::raw(&page(&root, true)?);
        return Ok(());
    };
    std::fs::create_dir_all(dir)
        .map_err(|e| Error::io("create", dir, &e).hint("name a folder that you may write"))?;
    // `share` has verbs of its own.
    let verbs = root.get_subcommands().flat_map(|verb| std::iter::once(verb).chain(verb.get_subcommands()));
    let verbs =
        verbs.filter(|verb| !verb.is_hide_set() && verb.get_name() != "help").map(|verb| (verb, false));
    for (command, whole) in std::iter::once((&root, true)).chain(verbs) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        let file = dir.join(format!("{name}.1"));
        let page = page(command, whole)?;
        let mut options = OpenOptions::new();
        files::open_with(options.write(true).create(true).truncate(true), 0, &file)
            .and_then(|mut file| file.write_all(&page))
            .map_err(|e| Error::io("write", &file, &e).hint("name a folder that you may write"))?;
    }
    ui::done(&format!("wrote the manual pages to {}", dir.display()));
    Ok(())
}

/// Returns a page. That of the `whole` program also has the variables and files.
fn page(command: &Command, whole: bool) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    render(command, whole, &mut page).map_err(|e| Error::new(format!("cannot make a manual page: {e}")))?;
    Ok(page)
}

fn render(command: &Command, whole: bool, page: &mut Vec<u8>) -> io::Result<()> {
    let man = Man::new(command.clone()).source(concat!("codex-pool ", env!("CARGO_PKG_VERSION")));
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(page)?;
    }
    let mut more = Roff::new();
    // The end of `--help`: paragraphs that begin with a heading and are laid out already.
    let notes = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    // The page has a longer table of the environment.
    let parts = notes.split("\n\n").filter_map(|paragraph| paragraph.split_once(':'));
    for (heading, text) in parts.filter(|(heading, _)| *heading != "Environment") {
        more.control("SH", [heading.to_uppercase().as_str()]).control("nf", []);
        for line in text.trim_matches('\n').lines() {
            more.text([roman(line.trim_start())]);
        }
        more.control("fi", []);
    }
    let tables = [("ENVIRONMENT", &ENVIRONMENT[..]), ("FILES", &FILES[..])];
    for (heading, items) in tables.into_iter().filter(|_| whole) {
        more.control("SH", [heading]);
        for (name, text) in items {
            more.control("TP", []).text([bold(*name)]).text([roman(*text)]);
        }
    }
    more.to_writer(page)
}
