//! `import`: adopts documents from files, standard input, or another tool's store. A document that is refused does not
//! keep the others from being imported.

use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use codex_pool_core::auth_doc::{AuthDoc, MAX_BYTES};
use codex_pool_core::files;
use codex_pool_core::pool::Pool;
use codex_pool_core::shared::refuse_on_runner;
use codex_pool_core::store::{Adoption, ForeignAccount, is_registry, parse_foreign_store};
use codex_pool_core::time::human_duration;
use codex_pool_core::{Error, ErrorKind, Result};

use crate::cli::ImportArgs;
use crate::context::adopt;
use crate::context::{Context, OpenPool};
use crate::refresh::{Mode, Outcome, Refresher, Scope};
use crate::ui;

/// The store of another tool is smaller than this, bytes. It may contain much beside accounts.
const MAX_STORE: u64 = 64 << 20;

pub(crate) fn run(ctx: &Context, args: &ImportArgs) -> Result<()> {
    let from_tool = matches!(args.files.as_slice(), [one] if one.as_os_str() == "codex-tools");
    if args.path.is_some() && !from_tool {
        return Err(Error::of(ErrorKind::Usage, "`--path` goes with `import codex-tools`")
            .hint("`codex-pool import FILE` reads any other file"));
    }
    if args.label.is_some() && (args.files.len() > 1 || from_tool) {
        return Err(Error::of(ErrorKind::Usage, "`--label` goes with one file")
            .hint("import them without it; `codex-pool rename` changes a label"));
    }
    let sources = match (&args.path, from_tool) {
        (Some(path), _) => vec![path.clone()],
        (None, true) => {
            let store = tool_store(ctx)?;
            if !store.exists() {
                return Err(Error::new(format!(
                    "codex-tools has no accounts: there is no {}",
                    store.display()
                ))
                .hint("name its store with `--path`"));
            }
            vec![store]
        }
        (None, false) => args.files.clone(),
    };
    // Everything is read before the pool is locked, since a pipe may be slow.
    let mut batch: Vec<Document> = Vec::new();
    for source in &sources {
        match source.is_dir() {
            true => batch.extend(read_folder(source)?),
            false => batch.extend(read(source)),
        }
    }
    if args.label.is_some() && batch.len() > 1 {
        return Err(Error::of(
            ErrorKind::Usage,
            "`--label` goes with one account, and this file has several",
        )
        .hint("import them without it; `codex-pool rename` changes a label"));
    }
    if batch.is_empty() {
        ui::note("there are no accounts in it");
    }
    // Before a document is refused: what helps there needs a member, too. A registry that cannot be read is told of
    // when the pool is opened, which would make one.
    let shared = Pool::peek(&ctx.paths).ok().and_then(|pool| pool.shared());
    refuse_on_runner(shared, "codex-pool import")?;
    // Of a single document, why it is refused is all that there is to say.
    if let [Document { name, doc: Err(why), .. }] = batch.as_slice() {
        return Err(match why == ABSENT {
            true => Error::new(format!("no such file: {name}"))
                .hint("name an auth.json, a folder of them, or `codex-tools`"),
            false => Error::new(format!("{name} was refused: {why}")).hint(ANEW),
        });
    }
    let names = Names { label: args.label.as_deref(), rename: args.rename };
    let refused = import_all(ctx, &batch, names)?;
    match refused {
        0 => Ok(()),
        1 => Err(Error::new("one document was not imported").hint(ANEW)),
        several => Err(Error::new(format!("{several} documents were not imported")).hint(ANEW)),
    }
}

/// What helps where a document is refused.
const ANEW: &str = "`codex-pool add` logs in to an account anew";
/// Why a file is refused that is not there.
const ABSENT: &str = "there is no such file";

/// The label that the user gives an account, and whether one that is here gets it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Names<'a> {
    label: Option<&'a str>,
    rename: bool,
}

/// Reads every file of a folder, by name. Hidden ones and folders in it are left out.
fn read_folder(folder: &Path) -> Result<Vec<Document>> {
    let entries = fs::read_dir(folder).map_err(|e| {
        Error::io("read", folder, &e).hint("name its files, or copy them to a folder that you may read")
    })?;
    let hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.is_file() && !hidden(path));
    files.sort();
    let mut batch: Vec<Document> = files.iter().flat_map(|path| read(path)).collect();
    batch.iter_mut().for_each(|document| document.named = true);
    Ok(batch)
}

/// Returns where codex-tools keeps its accounts.
///
/// # Errors
/// HOME is not set.
pub(super) fn tool_store(ctx: &Context) -> Result<PathBuf> {
    let data = if cfg!(target_os = "macos") { "Library/Application Support" } else { ".local/share" };
    let home =
        ctx.env.home().ok_or_else(|| Error::new("HOME is not set").hint("name the store with `--path`"))?;
    Ok(home.join(data).join("com.carry.codex-tools/accounts.json"))
}

/// A document of a source, understood or not.
pub(super) struct Document {
    /// Where it is from, for messages.
    name: String,
    /// Its file, if it has one of its own.
    file: Option<PathBuf>,
    /// Whether it is named in what is said of it: it is one of a folder.
    named: bool,
    /// What a store says about its account.
    stored: Option<Stored>,
    /// The document, or why it is refused.
    doc: std::result::Result<AuthDoc, String>,
}

/// What a store says about an account, beside its document.
struct Stored {
    id: Option<String>,
    label: Option<String>,
    /// Unix seconds.
    added_at: Option<i64>,
    enabled: bool,
}

impl Document {
    /// Returns the document, if it is understood.
    pub(super) fn doc(&self) -> Option<&AuthDoc> {
        self.doc.as_ref().ok()
    }
}

/// Reads a source: a document, or a store of several.
pub(super) fn read(path: &Path) -> Vec<Document> {
    let name = if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
    let single = |doc| {
        vec![Document { name: name.clone(), file: Some(path.to_owned()), named: false, stored: None, doc }]
    };
    let bytes = match bytes_of(path) {
        Ok(bytes) => bytes,
        Err(why) => return single(Err(why)),
    };
    if let Some(entries) = parse_foreign_store(&bytes) {
        return entries.into_iter().map(|entry| of_store(&name, entry)).collect();
    }
    if is_registry(&bytes) {
        return single(Err(
            "it is codex-pool's own registry, which holds no credentials; import the files in \
                           `auth` beside it"
                .to_owned(),
        ));
    }
    if bytes.len() as u64 > MAX_BYTES {
        return single(Err("it is larger than any auth.json".to_owned()));
    }
    single(AuthDoc::parse_foreign(&bytes).map_err(|e| e.to_string()).and_then(usable))
}

/// Returns the document as Codex can use it, now or after a renewal.
fn usable(doc: AuthDoc) -> std::result::Result<AuthDoc, String> {
    if doc.has_id_token() || doc.needs_id_token() {
        return Ok(doc.corrected());
    }
    Err("it has no id_token, without which the service refuses Codex, and no refresh token to get one with"
        .to_owned())
}

fn of_store(store: &str, account: ForeignAccount) -> Document {
    let ForeignAccount { id, label, added_at, enabled, doc } = account;
    let name = label.as_deref().or(id.as_deref()).unwrap_or("an account without a label");
    Document {
        name: format!("{name} in {store}"),
        file: None,
        named: false,
        doc: doc.map_err(|(_, why)| why.to_string()).and_then(usable),
        stored: Some(Stored { id, label, added_at, enabled }),
    }
}

fn bytes_of(path: &Path) -> std::result::Result<Vec<u8>, String> {
    let text = |e: std::io::Error| format!("it cannot be read ({})", codex_pool_core::error::os_text(&e));
    if path.as_os_str() == "-" {
        if std::io::stdin().is_terminal() {
            ui::note("reading auth.json from the terminal; Ctrl-D ends it");
        }
        return files::read_stream(std::io::stdin().lock(), MAX_STORE).map_err(text);
    }
    // A named pipe, as shells make for `<(…)`.
    if fs::metadata(path).is_ok_and(|m| m.file_type().is_fifo() || m.file_type().is_char_device()) {
        return files::open_stream(path).and_then(|file| files::read_stream(file, MAX_STORE)).map_err(text);
    }
    match files::read_small(path, MAX_STORE) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(ABSENT.to_owned()),
        Err(e) => Err(text(e)),
    }
}

/// Imports the documents in one transaction. Returns how many were refused.
///
/// # Errors
/// The pool cannot be written. What was imported before that stays.
pub(super) fn import_all(ctx: &Context, batch: &[Document], names: Names<'_>) -> Result<usize> {
    let mut open = ctx.open()?;
    if let (Some(label), Some(doc)) = (names.label, batch.first().and_then(Document::doc)) {
        open.pool.registry().check_label(label, Some(doc.id()))?;
        refuse_to_rename(&open, doc, label, names.rename)?;
    }
    let (mut refused, mut copied) = (0, false);
    let mut all = || -> Result<()> {
        for document in batch {
            match &document.doc {
                Ok(doc) => {
                    let adoption = import(&mut open, document, doc, names.label)?;
                    let taken = matches!(adoption, Adoption::New | Adoption::Updated);
                    copied |= taken && !doc.is_access_only() && !is_live(ctx, document);
                }
                Err(why) => {
                    ui::warn(&format!("{} was refused: {why}", document.name));
                    refused += 1;
                }
            }
        }
        Ok(())
    };
    let result = all();
    open.commit()?;
    drop(open);
    let taken = batch.iter().filter_map(Document::doc);
    taken.filter(|doc| doc.needs_id_token()).try_for_each(|doc| complete(ctx, doc))?;
    if copied {
        ui::note(
            "an imported login has two owners now: stop using the other copy, or the one that renews its tokens first \
             locks the other one out",
        );
    }
    result.map(|()| refused)
}

/// Renews the tokens of an imported document that lacks the id token, which the answer has.
fn complete(ctx: &Context, doc: &AuthDoc) -> Result<()> {
    let scope = Scope::One(doc.id().clone());
    let outcomes = Refresher::new(ctx)?.run(&scope, Mode::TokenOnly, &mut |_| {})?.outcomes;
    for (id, outcome) in outcomes {
        let why = match outcome {
            Outcome::Failed(why) => why,
            Outcome::NeedsLogin => "only a login helps".to_owned(),
            _ => continue,
        };
        let label = ctx.open()?.label(&id);
        ui::warn(&format!(
            "`{label}` has no id_token, so Codex is refused until its tokens are renewed: {why}"
        ));
    }
    Ok(())
}

/// Keeps an account that is here from being renamed without a word.
fn refuse_to_rename(open: &OpenPool, doc: &AuthDoc, label: &str, rename: bool) -> Result<()> {
    match open.pool.registry().get(doc.id()) {
        Some(account) if account.label != label && !rename => Err(Error::new(format!(
            "this is `{}`, which is in the pool already; nothing was renamed",
            account.label
        ))
        .hint(format!("import it without `--label`, or add `--rename` to call it `{label}`"))),
        _ => Ok(()),
    }
}

fn import(open: &mut OpenPool, document: &Document, doc: &AuthDoc, label: Option<&str>) -> Result<Adoption> {
    let stored = document.stored.as_ref();
    let adoption = adopt::adopt(open, doc, label.or(stored.and_then(|stored| stored.label.as_deref())))?;
    let now = open.now;
    let before = open.label(doc.id());
    let registry = open.pool.registry_mut();
    if let (Some(label), true) = (label, adoption != Adoption::New) {
        registry.rename(doc.id(), label)?;
    }
    if let (Some(stored), Some(account)) = (stored, registry.get_mut(doc.id())) {
        // Its id in the store is still a valid reference.
        if let Some(id) = &stored.id
            && *id != account.id.as_str()
            && !account.former_ids.contains(id)
        {
            account.former_ids.push(id.clone());
        }
        if adoption == Adoption::New {
            account.added_at = stored.added_at.unwrap_or(now);
            account.enabled = stored.enabled;
        }
    }
    let access = open.pool.registry().get(doc.id()).and_then(|account| account.access_only?.ends_at);
    let label = open.label(doc.id());
    let verdict = match adoption {
        Adoption::New => format!("imported `{label}`"),
        Adoption::Updated => format!("`{label}` was here already; it has the newer credentials now"),
        Adoption::Unchanged => format!("`{label}` was here already, with these credentials"),
        Adoption::KeptNewer => format!("`{label}` was here already, with newer credentials, which it keeps"),
    };
    let renamed = if before == label { String::new() } else { format!("; renamed from `{before}`") };
    let of = if document.named { format!("{}: ", document.name) } else { String::new() };
    ui::done(&format!("{of}{verdict}{renamed}"));
    match access {
        Some(at) if at > now => ui::note(&format!("its access ends in {}", human_duration(at - now))),
        Some(_) => ui::warn(&format!("the access of `{label}` has ended already")),
        None => {}
    }
    Ok(adoption)
}

/// Returns whether a document is the live one, which has one owner.
fn is_live(ctx: &Context, document: &Document) -> bool {
    let real = document.file.as_ref().and_then(|file| fs::canonicalize(file).ok());
    real.is_some() && real == fs::canonicalize(ctx.main_home.auth_json()).ok()
}
