//! The layouts of package managers: what starts natively gets the arguments and the environment that the launcher
//! would have given it.

use std::fs;
use std::path::{Path, PathBuf};

use testkit::files::write_program;
use testkit::probe::Record;
use testkit::{World, real_codex, version, versions};

use crate::world::{Installation as _, comparable, link_to, npm, packages, usual, world};

/// Learns, launches, and requires the record of a start by the launcher itself.
#[track_caller]
fn same(world: &World, bin: &Path) -> Record {
    // What a launcher inherits of another one, and what must stay as it is.
    let with = |cmd: testkit::Cmd| {
        let cmd =
            cmd.env("CODEX_MANAGED_BY_BUN", "old").env("CODEX_MANAGED_PACKAGE_ROOT", "/old").env("EMPTY", "");
        let mut cmd = cmd.env("ODD", "a=b\nc");
        limit_descriptors(&mut cmd);
        cmd
    };
    let args = ["exec", "hi", "", "ä", "--", "-x"];
    world.learn(bin);
    let direct = world.launch(with(world.cmd_in(&bin.join("codex"), &[bin])).args(args)).through_node();
    let shim = world.launch(with(world.cmd_in(&world.shim(), &[bin])).args(args)).natively();
    assert_eq!(comparable(shim.clone()), comparable(direct));
    assert_eq!(world.lessons(), 3, "learnt once");
    shim
}

/// A soft limit below the hard one, as on most systems: Node raises it.
fn limit_descriptors(cmd: &mut testkit::Cmd) {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: setrlimit with constants, in the child alone.
    #[expect(unsafe_code, reason = "pre_exec and setrlimit")]
    unsafe {
        cmd.inner().pre_exec(|| {
            let limit = nix::libc::rlimit { rlim_cur: 256, rlim_max: 4096 };
            match nix::libc::setrlimit(nix::libc::RLIMIT_NOFILE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
}

#[test]
fn npm_installation_starts_natively_as_its_launcher_would_start_it() {
    for version in versions() {
        let (Some(_), Some(world)) = (real_codex(&version), world()) else { return };
        let bin = world.root().join("npm/bin");
        npm(&version, &world.root().join("npm/lib/node_modules"), &bin.join("codex"));
        let record = same(&world, &bin);
        assert_eq!(record.var("CODEX_MANAGED_BY_NPM").as_deref(), Some("1"), "{version}");
        assert_eq!(record.limits["nofile"], (4096, 4096), "{version}");
        let root =
            world.root().join("npm/lib/node_modules/@openai/codex").canonicalize().expect("it is there");
        assert_eq!(record.var("CODEX_MANAGED_PACKAGE_ROOT").map(PathBuf::from), Some(root), "{version}");
    }
}

#[test]
fn local_npm_installation_starts_natively() {
    let Some(world) = world() else { return };
    let modules = world.root().join("prefix/node_modules");
    npm(&version(), &modules, &modules.join(".bin/codex"));
    same(&world, &modules.join(".bin"));
}

/// pnpm's store, with the packages linked from it.
fn pnpm(world: &World) -> PathBuf {
    let global = world.home().join(".local/share/pnpm/global/5");
    let store = global.join(".pnpm");
    let inside = store.join("@openai+codex@1/node_modules/@openai");
    packages(&version(), &inside.join("codex"), &|name| {
        let package = store.join("@openai+codex@1-platform/node_modules/@openai/codex");
        link_to(&package, &inside.join(name));
        package
    });
    link_to(&inside.join("codex"), &global.join("node_modules/@openai/codex"));
    fs::write(global.join("node_modules/.modules.yaml"), "layoutVersion: 5\n").expect("write");
    global
}

#[test]
fn pnpm_installation_starts_natively_with_what_its_shell_script_sets() {
    let Some(world) = world() else { return };
    let global = pnpm(&world);
    let bin = world.home().join(".local/share/pnpm");
    let target = "global/5/node_modules/@openai/codex/bin/codex.js";
    let node_path = global.join(".pnpm/node_modules").display().to_string();
    write_program(
        &bin.join("codex"),
        format!(
            r#"#!/bin/sh
basedir=$(dirname "$(echo "$0" | sed -e 's,\\,/,g')")

case `uname` in
    *CYGWIN*|*MINGW*|*MSYS*) basedir=`cygpath -w "$basedir"`;;
esac

if [ -z "$NODE_PATH" ]; then
  export NODE_PATH="{node_path}"
else
  export NODE_PATH="{node_path}:$NODE_PATH"
fi
if [ -x "$basedir/node" ]; then
  exec "$basedir/node"  "$basedir/{target}" "$@"
else
  exec node  "$basedir/{target}" "$@"
fi
"#
        ),
    );
    let record = same(&world, &bin);
    assert_eq!(record.var("CODEX_MANAGED_BY_PNPM").as_deref(), Some("1"));
    assert_eq!(record.var("NODE_PATH"), Some(node_path));
}

#[test]
fn pnpm_installation_with_links_is_known_by_its_mark() {
    let Some(world) = world() else { return };
    let global = pnpm(&world);
    let bin = world.home().join(".local/share/pnpm");
    link_to(&global.join("node_modules/@openai/codex/bin/codex.js"), &bin.join("codex"));
    let record = same(&world, &bin);
    assert_eq!(record.var("CODEX_MANAGED_BY_PNPM").as_deref(), Some("1"));
    fs::remove_file(global.join("node_modules/.modules.yaml")).expect("remove");
    let record = world.launch(world.exec_in(&bin)).through_node();
    assert_eq!(record.var("CODEX_MANAGED_BY_PNPM"), None);
}

#[test]
fn bun_installation_starts_natively_as_buns() {
    let Some(world) = world() else { return };
    let bin = world.home().join(".bun/bin");
    npm(&version(), &world.home().join(".bun/install/global/node_modules"), &bin.join("codex"));
    let record = same(&world, &bin);
    assert_eq!(record.var("CODEX_MANAGED_BY_BUN").as_deref(), Some("1"));
    assert_eq!(record.var("CODEX_MANAGED_BY_NPM"), None);
}

#[test]
fn codex_of_each_node_version_of_nvm_starts_natively() {
    let Some(world) = world() else { return };
    let versions = world.home().join(".nvm/versions/node");
    let bins = ["v20.1.0", "v22.2.0"].map(|name| {
        let dir = versions.join(name);
        npm(&version(), &dir.join("lib/node_modules"), &dir.join("bin/codex"));
        world.node(&dir.join("bin"));
        dir.join("bin")
    });
    for bin in &bins {
        world.learn(bin);
        assert!(world.nodes().last().is_some_and(|line| line.starts_with(&bin.display().to_string())));
    }
    for _ in 0..2 {
        for bin in &bins {
            let record = world.launch(world.exec_in(bin)).natively();
            let root = bin.parent().expect("a version").join("lib/node_modules/@openai/codex");
            let root = root.canonicalize().expect("it is there");
            assert_eq!(record.var("CODEX_MANAGED_PACKAGE_ROOT").map(PathBuf::from), Some(root));
        }
    }
    assert_eq!((world.learnt().len(), world.lessons()), (2, 6));
}

#[test]
fn second_node_for_the_same_codex_is_learnt_for_itself() {
    let Some(world) = world() else { return };
    let (bin, _) = usual(&world);
    world.learn(&bin);
    let other = world.root().join("other");
    world.node(&other);
    let exec = || world.cmd_in(&world.shim(), &[&bin, &other]).args(["exec", "hi"]);
    world.launch(exec()).through_node();
    world.settle();
    world.launch(exec()).natively();
    world.launch(world.exec_in(&bin)).natively();
    assert_eq!(world.learnt().len(), 2);
}
