//! The cases that were run against the real binaries, with what those did.

use std::ffi::OsString;
use std::fs;

use tempfile::TempDir;

use super::*;
use crate::codex::argv::parse;

const BAD: &str = "forced_chatgpt_workspace_id = \"other\"\n";
const GOOD: &str = "forced_chatgpt_workspace_id = \"me\"\n";

/// A little world: `home` (CODEX_HOME), `etc`, `proj` (a repository), `elsewhere`.
struct World(TempDir);

impl World {
    fn new() -> Self {
        let world = World(tempfile::tempdir().unwrap());
        for dir in ["home", "etc", "proj/.git", "proj/a/b", "elsewhere"] {
            fs::create_dir_all(world.path(dir)).unwrap();
        }
        world
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(relative)
    }

    /// `@` stands for the world's folder.
    fn with(self, file: &str, text: &str) -> Self {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let root = self.path("");
        fs::write(path, text.replace("@/", root.to_str().unwrap())).unwrap();
        self
    }

    fn trusting(self, dir: &str) -> Self {
        let text = format!("[projects.\"@/{dir}\"]\ntrust_level = \"trusted\"\n");
        self.with("home/config.toml", &text)
    }

    fn read(&self, cwd: &str, args: &[&str]) -> CodexSettings {
        let root = self.path("");
        let argv: Vec<OsString> =
            args.iter().map(|arg| arg.replace("@/", root.to_str().unwrap()).into()).collect();
        let around = Surroundings {
            codex_home: &self.path("home"),
            system_dir: &self.path("etc"),
            user_home: Some(&self.path("user")),
            cwd: Some(&self.path(cwd)),
        };
        CodexSettings::read(around, &parse(&argv))
    }

    /// Would a login of workspace `me` be deleted in `proj`?
    fn forbids_me(&self, cwd: &str, args: &[&str]) -> bool {
        !self.read(cwd, args).allows_chatgpt("me")
    }
}

#[test]
fn nothing_set_is_nothing() {
    let settings = World::new().read("proj", &[]);
    assert_eq!(settings, CodexSettings::default());
    assert!(settings.allows_chatgpt("me") && settings.allows_api_key());
    let world = World::new().with("home/config.toml", "model_x = \"o3\"\n[features]\nx = true\n");
    assert_eq!(world.read("proj", &[]), CodexSettings::default());
}

#[test]
fn model_is_known_from_every_layer() {
    let trust = "[projects.\"@/proj\"]\ntrust_level = \"trusted\"\n";
    let (low, high) = ("model = \"low\" # a comment\nforced = 1\n", "x = 1\n  'model' = 'high'\r\n");
    let no_args: &[&str] = &[];
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], Option<&'a str>);
    let cases: &[Case<'_>] = &[
        (&[("home/config.toml", low)], no_args, Some("low")),
        (&[("home/config.toml", "[x]\nmodel = 'inner'\n")], no_args, None),
        (
            &[("home/config.toml", "model_provider = 'x'\nsqlite_home = '/x'\nmodel = 'parsed'")],
            no_args,
            Some("parsed"),
        ),
        (&[("home/config.toml", low), ("home/x.config.toml", high)], &["-p", "x"], Some("high")),
        (
            &[("home/config.toml", &format!("{low}{trust}")), ("proj/.codex/config.toml", high)],
            no_args,
            Some("high"),
        ),
        (&[("home/config.toml", low), ("proj/.codex/config.toml", high)], no_args, Some("low")),
        (&[("home/config.toml", low)], &["-c", "model=high"], Some("high")),
        (&[("home/config.toml", low)], &["-c", "model=other", "exec", "--model=high", "hi"], Some("high")),
        (&[("home/config.toml", low)], &["-m", "high"], Some("high")),
    ];
    for (files, args, model) in cases {
        let world = files.iter().fold(World::new(), |world, (path, text)| world.with(path, text));
        assert_eq!(world.read("proj", args).model.as_deref(), *model, "{files:?} {args:?}");
    }
}

#[test]
fn values_as_codex_takes_them() {
    for (text, forbidden) in [
        (BAD, true),
        (GOOD, false),
        ("forced_chatgpt_workspace_id = [\"other\"]", true),
        ("forced_chatgpt_workspace_id = [\"other\", \"me\"]", false),
        ("forced_chatgpt_workspace_id = []", false),
        ("forced_chatgpt_workspace_id = \" \"", false),
        ("forced_chatgpt_workspace_id = \" me \"", false),
        ("forced_login_method = \"api\"", true),
        ("forced_login_method = \"chatgpt\"", false),
        ("\"forced_chatgpt\\u005fworkspace_id\" = \"other\"", true),
        ("[other]\nforced_login_method = \"api\"", false),
    ] {
        let world = World::new().with("home/config.toml", text);
        assert_eq!(world.forbids_me("proj", &[]), forbidden, "{text}");
        assert!(world.read("proj", &[]).unreadable.is_empty(), "{text}");
    }
    let world = World::new().with("home/config.toml", "forced_login_method = \"chatgpt\"");
    assert!(!world.read("proj", &[]).allows_api_key());
    let world = World::new().with("home/config.toml", BAD);
    assert!(world.read("proj", &[]).allows_api_key());
}

#[test]
fn precedence_of_layers() {
    let trust = "[projects.\"@/proj\"]\ntrust_level = \"trusted\"\n";
    let no_args: &[&str] = &[];
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], bool);
    let cases: &[Case<'_>] = &[
        (&[("etc/config.toml", BAD)], no_args, true),
        (&[("etc/config.toml", BAD), ("home/config.toml", GOOD)], no_args, false),
        (&[("etc/config.toml", GOOD), ("home/config.toml", BAD)], no_args, true),
        (&[], &["-c", "forced_chatgpt_workspace_id=\"other\""], true),
        (&[], &["-c", "forced_chatgpt_workspace_id=other"], true),
        (&[], &["exec", "-c", "forced_login_method='api", "hi"], true),
        (&[("home/config.toml", BAD)], &["-c", "forced_chatgpt_workspace_id=\"me\""], false),
        (&[("home/config.toml", GOOD)], &["-c", "forced_chatgpt_workspace_id=\"other\""], true),
        (&[], &["-c", "\"forced_chatgpt_workspace_id\"=\"other\""], false),
        (&[("etc/managed_config.toml", BAD)], no_args, true),
        (&[("etc/managed_config.toml", GOOD), ("home/config.toml", BAD)], no_args, false),
        (&[("etc/managed_config.toml", BAD)], &["-c", "forced_chatgpt_workspace_id=\"me\""], true),
        (&[("home/managed_config.toml", BAD)], no_args, false),
        (&[("etc/requirements.toml", BAD)], no_args, false),
        (&[("home/x.config.toml", BAD)], no_args, false),
        (&[("home/x.config.toml", BAD)], &["-p", "x"], true),
        (&[("home/x.config.toml", BAD)], &["--profile=x", "exec", "hi"], true),
        (&[("home/x.config.toml", GOOD), ("home/config.toml", BAD)], &["-p", "x"], false),
        (&[("home/config.toml", &format!("profile = \"x\"\n[profiles.x]\n{BAD}"))], no_args, false),
        (&[("home/config.toml", BAD)], &["exec", "--ignore-user-config", "hi"], false),
        // Projects
        (&[("proj/.codex/config.toml", BAD)], no_args, false),
        (&[("proj/.codex/config.toml", BAD), ("home/config.toml", trust)], no_args, true),
        (
            &[("proj/.codex/config.toml", GOOD), ("home/config.toml", &format!("{BAD}{trust}"))],
            no_args,
            false,
        ),
        (&[("proj/.codex/config.toml", BAD), ("etc/config.toml", trust)], no_args, true),
        (&[("proj/.codex/config.toml", BAD), ("home/x.config.toml", trust)], &["-p", "x"], true),
        (
            &[("proj/.codex/config.toml", BAD), ("home/x.config.toml", &format!("{GOOD}{trust}"))],
            &["-p", "x"],
            true,
        ),
        (
            &[("proj/.codex/config.toml", BAD), ("home/config.toml", trust)],
            &["-c", "forced_chatgpt_workspace_id=\"me\""],
            false,
        ),
        (
            &[("proj/.codex/config.toml", BAD)],
            &["-c", "projects={\"@/proj\"={trust_level=\"trusted\"}}"],
            true,
        ),
        (&[("proj/.codex/config.toml", BAD)], &["-c", "projects.\"@/proj\".trust_level=\"trusted\""], false),
        (
            &[("proj/.codex/config.toml", BAD), ("home/config.toml", trust)],
            &["exec", "--ignore-user-config", "hi"],
            false,
        ),
    ];
    for (files, args, forbidden) in cases {
        let world = files.iter().fold(World::new(), |world, (file, text)| world.with(file, text));
        assert_eq!(world.forbids_me("proj", args), *forbidden, "{files:?} {args:?}");
    }
}

#[test]
fn which_project_counts() {
    let world = World::new().trusting("proj").with("proj/.codex/config.toml", BAD);
    assert!(world.forbids_me("proj/a/b", &[]));
    assert!(!world.forbids_me("elsewhere", &[]));
    assert!(world.forbids_me("elsewhere", &["-C", "@/proj"]));
    assert!(world.forbids_me("elsewhere", &["-C", "../proj/a"]));
    assert!(!world.forbids_me("proj", &["-C", "../elsewhere"]));
    let world = world.with("proj/a/.codex/config.toml", GOOD);
    assert!(!world.forbids_me("proj/a/b", &[]), "the nearest wins");
    assert!(world.forbids_me("proj", &[]));

    let world = World::new().trusting("proj/a").with("proj/a/.codex/config.toml", BAD);
    assert!(world.forbids_me("proj/a/b", &[]), "trust in the folder itself");
    let world = World::new().trusting("proj/a").with("proj/.codex/config.toml", BAD);
    assert!(!world.forbids_me("proj/a", &[]), "trust in a folder below says nothing");

    let world = World::new().trusting("proj").with("proj/.codex/config.toml", BAD);
    fs::remove_dir(world.path("proj/.git")).unwrap();
    assert!(world.forbids_me("proj", &[]), "without a root the folder is its own");
    // Codex itself leaves a `.git` in the system's temporary folder, which is then the root of all that is there.
    let rootless = !world.path("").ancestors().any(|folder| folder.join(".git").exists());
    assert!(!rootless || !world.forbids_me("proj/a", &[]));
}

#[test]
fn roots_by_own_markers() {
    let trust = "[projects.\"@/proj\"]\ntrust_level = \"trusted\"\n";
    let world = World::new()
        .with("home/config.toml", &format!("project_root_markers = [\".top\"]\n{trust}"))
        .with("proj/.codex/config.toml", BAD);
    assert!(!world.forbids_me("proj/a", &[]));
    let world = world.with("proj/.top", "");
    assert!(world.forbids_me("proj/a", &[]));
    let world = World::new()
        .with("home/config.toml", &format!("project_root_markers = []\n{trust}"))
        .with("proj/.codex/config.toml", BAD);
    assert!(!world.forbids_me("proj/a", &[]));
}

/// A trusted repository `proj` with a linked worktree `wt`, as Git makes it, which forbids me.
fn worktree() -> World {
    World::new()
        .trusting("proj")
        .with("proj/.git/worktrees/wt/commondir", "../..\n")
        .with("proj/.git/worktrees/wt/gitdir", "@/wt/.git\n")
        .with("wt/.git", "gitdir: @/proj/.git/worktrees/wt\n")
        .with("wt/.codex/config.toml", BAD)
}

#[test]
fn a_linked_worktree_has_the_trust_of_its_main_checkout() {
    let world = worktree();
    fs::create_dir(world.path("wt/a")).unwrap();
    assert!(world.forbids_me("wt", &[]) && world.forbids_me("wt/a", &[]));
    // With `worktree.useRelativePaths`.
    let relative = worktree()
        .with("wt/.git", "gitdir: ../proj/.git/worktrees/wt\n")
        .with("proj/.git/worktrees/wt/gitdir", "../../../../wt/.git\n");
    assert!(relative.forbids_me("wt", &[]));
}

/// Observed on 0.159.3 and 0.169.0; 0.140.0 believes all of them but the module.
#[test]
fn a_worktree_that_its_repository_does_not_name_has_no_trust() {
    for (file, text) in [
        ("wt/.git", "gitdir: @/proj/.git/worktrees/other\n"),
        ("wt/.git", "gitdir: @/proj/.git/modules/wt\n"),
        ("proj/.git/worktrees/wt/gitdir", "@/other/.git\n"),
        ("proj/.git/worktrees/wt/gitdir", "@/wt/.git/\n@/wt/.git"),
        ("proj/.git/worktrees/wt/gitdir", "@/wt\n"),
        ("proj/.git/worktrees/wt/gitdir", ""),
        ("proj/.git/worktrees/wt/commondir", "../../..\n"),
        ("proj/.git/worktrees/wt/commondir", ""),
    ] {
        assert!(!worktree().with(file, text).forbids_me("wt", &[]), "{file}: {text}");
    }
    for file in ["gitdir", "commondir"] {
        let world = worktree();
        fs::remove_file(world.path("proj/.git/worktrees/wt").join(file)).unwrap();
        assert!(!world.forbids_me("wt", &[]), "{file}");
    }
    // Another folder with the worktree's own `.git`.
    let linked = worktree().with("elsewhere/.codex/config.toml", BAD);
    std::os::unix::fs::symlink(linked.path("wt/.git"), linked.path("elsewhere/.git")).unwrap();
    assert!(!linked.forbids_me("elsewhere", &[]));
    let linked = worktree().with("elsewhere/.codex/config.toml", BAD);
    fs::hard_link(linked.path("wt/.git"), linked.path("elsewhere/.git")).unwrap();
    assert!(!linked.forbids_me("elsewhere", &[]));
    // A repository of the attacker's that says that the trusted one is its own.
    let forged = worktree()
        .with("elsewhere/worktrees/wt/gitdir", "@/wt/.git\n")
        .with("elsewhere/worktrees/wt/commondir", "@/proj/.git\n")
        .with("wt/.git", "gitdir: @/elsewhere/worktrees/wt\n");
    assert!(!forged.forbids_me("wt", &[]));
    let bare = worktree()
        .with("proj/bare.git/worktrees/wt/gitdir", "@/wt/.git\n")
        .with("proj/bare.git/worktrees/wt/commondir", "../..\n")
        .with("wt/.git", "gitdir: @/proj/bare.git/worktrees/wt\n");
    assert!(!bare.forbids_me("wt", &[]));
}

#[test]
fn settings_of_projects_are_read_up_to_a_megabyte_in_all() {
    let long = |kib: usize| format!("{BAD}#{}\n", "x".repeat(kib << 10));
    let of = |world: World| world.read("proj/a/b", &[]);
    let world = || World::new().trusting("proj");
    let settings = of(world().with("proj/.codex/config.toml", &long(1000)));
    assert!(!settings.allows_chatgpt("me") && settings.unheeded.is_empty());
    let settings = of(world().with("proj/.codex/config.toml", &long(1024)));
    assert!(settings.allows_chatgpt("me"));
    assert_eq!(settings.unheeded.len(), 1);
    assert_eq!(settings.unheeded[0].why, Unheeded::TooLarge);
    let both =
        world().with("proj/a/.codex/config.toml", &long(600)).with("proj/.codex/config.toml", &long(600));
    let settings = of(both);
    assert!(!settings.allows_chatgpt("me"), "the nearest first");
    assert_eq!(settings.unheeded.len(), 1);
    // An untrusted file does not matter.
    assert!(of(World::new().with("proj/.codex/config.toml", &long(1024))).unheeded.is_empty());
}

#[test]
fn untrusted_beats_trust_of_the_root() {
    let text = "[projects.\"@/proj\"]\ntrust_level = \"trusted\"\n[projects.\"@/proj/a\"]\ntrust_level = \"untrusted\"\n";
    let world = World::new().with("home/config.toml", text).with("proj/a/.codex/config.toml", BAD);
    assert!(!world.forbids_me("proj/a", &[]));
}

#[test]
fn the_users_own_folder_is_no_project() {
    let world = World::new().with(
        "proj/.codex/config.toml",
        "cli_auth_credentials_store = \"keyring\"\n[projects.\"@/proj\"]\ntrust_level = \"trusted\"\n",
    );
    let (home, etc, cwd) = (world.path("proj/.codex"), world.path("etc"), world.path("proj"));
    let around = Surroundings { codex_home: &home, system_dir: &etc, user_home: None, cwd: Some(&cwd) };
    let argv = [OsString::from("-c"), "cli_auth_credentials_store=\"file\"".into()];
    let settings = CodexSettings::read(around, &parse(&argv));
    assert_eq!(settings.cli_auth_credentials_store, Some(CredentialsStore::File));
}

#[test]
fn the_credential_store() {
    use CredentialsStore::*;
    let keyring = "cli_auth_credentials_store = \"keyring\"";
    let file: &[&str] = &["-c", "cli_auth_credentials_store=\"file\""];
    for (path, args, store, enforced) in [
        ("home/config.toml", &[] as &[&str], Keyring, false),
        ("home/config.toml", file, File, false),
        ("etc/config.toml", file, File, false),
        ("etc/managed_config.toml", file, Keyring, true),
        ("etc/requirements.toml", file, Keyring, true),
    ] {
        let settings = World::new().with(path, keyring).read("proj", args);
        assert_eq!(settings.cli_auth_credentials_store, Some(store), "{path}");
        assert_eq!(settings.store_is_enforced, enforced, "{path}");
    }
    for (text, store) in [("auto", Some(Auto)), ("ephemeral", Some(Ephemeral)), ("vault", None)] {
        let world =
            World::new().with("home/config.toml", &format!("cli_auth_credentials_store = \"{text}\""));
        let settings = world.read("proj", &[]);
        assert_eq!(settings.cli_auth_credentials_store, store);
        assert_eq!(settings.unreadable.is_empty(), store.is_some());
    }
}

#[test]
fn requirements_narrow_what_is_allowed() {
    let require = |text: &str| World::new().with("etc/requirements.toml", text);
    assert!(require("allowed_chatgpt_workspaces = [\"other\"]").forbids_me("proj", &[]));
    assert!(!require("allowed_chatgpt_workspaces = [\"other\", \"me\"]").forbids_me("proj", &[]));
    assert!(!require("allowed_chatgpt_workspaces = []").forbids_me("proj", &[]));
    assert!(require("allowed_login_methods = [\"api\"]").forbids_me("proj", &[]));
    assert!(!require("allowed_login_methods = [\"api\", \"chatgpt\"]").forbids_me("proj", &[]));
    let both = require("allowed_chatgpt_workspaces = [\"other\"]").with("home/config.toml", GOOD);
    assert_eq!(both.read("proj", &[]).forced_chatgpt_workspace_id, Some(vec![]));
}

#[test]
fn base_url_and_databases() {
    let world = World::new()
        .trusting("proj")
        .with("proj/.codex/config.toml", "chatgpt_base_url = \"https://evil.test\"\nsqlite_home = \"db\"\n");
    let settings = world.read("proj", &[]);
    assert_eq!(settings.chatgpt_base_url, None, "a project does not choose where tokens go");
    assert_eq!(settings.sqlite_home, Some(world.path("proj/.codex/db")));

    let text = "chatgpt_base_url = \"http://127.0.0.1:1/x\"\nsqlite_home = \"~/db\"\n";
    let world = World::new().with("home/config.toml", text);
    let settings = world.read("proj", &[]);
    assert_eq!(settings.chatgpt_base_url.as_deref(), Some("http://127.0.0.1:1/x"));
    assert_eq!(settings.sqlite_home, Some(world.path("user/db")));
    assert_eq!(world.read("proj", &["-c", "sqlite_home=/x"]).sqlite_home, Some("/x".into()));
}

#[test]
fn what_cannot_be_read_is_named() {
    let broken = "forced_login_method = \"api\n";
    let world = World::new().with("home/config.toml", broken);
    let settings = world.read("proj", &[]);
    assert_eq!(settings.unreadable, [world.path("home/config.toml")]);
    assert!(settings.allows_chatgpt("me"));
    let world = World::new().with("home/x.config.toml", "sqlite_home = 3");
    assert_eq!(world.read("proj", &["-p", "x"]).unreadable, [world.path("home/x.config.toml")]);
    let world = World::new().with("home/config.toml", "x");
    fs::write(world.path("home/config.toml"), b"sqlite_home = '\xff'").unwrap();
    assert_eq!(world.read("proj", &[]).unreadable.len(), 1);
    let world = World::new();
    fs::create_dir(world.path("home/config.toml")).unwrap();
    assert_eq!(world.read("proj", &[]).unreadable.len(), 1);
}

#[test]
fn trusted_hooks_move_with_the_home() {
    let world = World::new();
    let (base, home) = (world.path("home"), world.path("elsewhere"));
    let text = "[hooks.state.\"@/home/hooks.json:stop:0:0\"]\ntrusted_hash = \"sha256:ab\"\n\
                [hooks.state.\"/o\\\"dd\"]\nenabled = false\n";
    let world = world.with("home/config.toml", text);
    let settings = world.read("proj", &[]);
    assert_eq!(settings.hooks_state.len(), 2);
    let value = settings.hooks_override(&base, &home).unwrap();
    let (key, value) = value.split_once('=').unwrap();
    assert_eq!(key, "hooks.state");
    let table: Table = format!("v = {value}").parse().unwrap();
    let moved = format!("{}/hooks.json:stop:0:0", home.display());
    assert_eq!(table["v"][&moved]["trusted_hash"].as_str(), Some("sha256:ab"));
    assert_eq!(table["v"]["/o\"dd"]["enabled"].as_bool(), Some(false));
    assert_eq!(World::new().read("proj", &[]).hooks_override(&base, &home), None);
}
