//! Other ways in: the Homebrew formula and the notes that a release has, the GitHub Action, and the container.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use testkit::backend::Backend;
use testkit::releases::{self, Releases};
use testkit::{bins, needs, takes};

use crate::place::{Place, Said, repository};
use crate::runner::{Runner, VERSION, workflow};

/// The files of a release of `some/fork`.
fn release() -> Runner {
    let mut runner = Runner::new();
    runner.release(&workflow("release.yml"));
    runner
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

#[test]
fn formula_names_every_archive_with_its_checksum() {
    let runner = release();
    let dist = runner.checkout.join("dist");
    let formula = read(&dist.join("codex-pool.rb"));
    assert!(formula.contains("\nclass CodexPool < Formula\n"));
    assert!(formula.contains(&format!("  version \"{VERSION}\"\n")));
    assert!(formula.contains("  homepage \"https://github.com/some/fork\"\n"));

    // Which archive is for which machine, by the blocks around each address.
    let (mut blocks, mut found) = (Vec::new(), Vec::new());
    for line in formula.lines().map(str::trim) {
        match line {
            "end" => drop(blocks.pop()),
            block if block.ends_with(" do") || block.starts_with("def ") || block.starts_with("class ") => {
                blocks.push(block)
            }
            line => {
                if let Some(url) = line.strip_prefix("url \"").and_then(|rest| rest.strip_suffix('"')) {
                    found.push((blocks[1..].join(" "), url.to_owned(), String::new()));
                } else if let Some(sum) =
                    line.strip_prefix("sha256 \"").and_then(|rest| rest.strip_suffix('"'))
                {
                    found.last_mut().expect("an address before").2 = sum.to_owned();
                }
            }
        }
    }
    assert!(blocks.is_empty(), "{blocks:?}");
    let expected = [
        ("on_macos do on_arm do", "aarch64-apple-darwin"),
        ("on_macos do on_intel do", "x86_64-apple-darwin"),
        ("on_linux do on_arm do", "aarch64-unknown-linux-musl"),
        ("on_linux do on_intel do", "x86_64-unknown-linux-musl"),
    ];
    assert_eq!(found.len(), expected.len(), "{formula}");
    for ((place, url, sum), (block, target)) in found.iter().zip(expected) {
        let name = format!("codex-pool-{VERSION}-{target}.tar.gz");
        assert_eq!(place, block);
        assert_eq!(url, &format!("https://github.com/some/fork/releases/download/v{VERSION}/{name}"));
        assert_eq!(sum, &releases::sha256(&fs::read(dist.join(name)).expect("archive")));
    }
    // What it installs is in the archives, and the shim is beside codex-pool, where `init` looks.
    assert!(formula.contains("libexec.install \"codex-pool\", \"codex\"\n"));
    assert!(!formula.contains("bin.install \"codex\""), "it would hide the real Codex");
    if let Some(ruby) = takes("ruby") {
        let checked = Command::new(ruby).arg("-c").arg(dist.join("codex-pool.rb")).output().expect("ruby");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }

    // Without one of the checksums there is no formula at all.
    let sum = dist.join(format!("codex-pool-{VERSION}-aarch64-apple-darwin.tar.gz.sha256"));
    fs::write(&sum, "none\n").expect("write");
    let line =
        format!("sh '{}/scripts/formula.sh' some/fork '{}'", runner.checkout.display(), dist.display());
    assert_eq!(runner.place.sh(&line).stops_with("is not a checksum").out, "");
}

#[test]
fn archive_says_all_ways_to_install() {
    let runner = release();
    let archive = runner.checkout.join(format!("dist/codex-pool-{VERSION}-{}.tar.gz", releases::target()));
    let notes = runner.place.sh(&format!("tar -xzOf '{}' INSTALL.md", archive.display())).ok().out;
    let base = format!("https://github.com/some/fork/releases/download/v{VERSION}");
    for file in ["install.sh", "codex-pool.rb"] {
        assert!(notes.contains(&format!("{base}/{file}")), "{notes}");
        assert!(runner.checkout.join("dist").join(file).exists());
    }
    assert!(notes.contains(&format!("uses: some/fork@v{VERSION}")), "{notes}");
    assert!(!notes.contains("OWNER/NAME"), "{notes}");

    // What cargo is told to install is there, and has the programs.
    let line = notes.lines().find(|line| line.contains("cargo install")).expect("cargo");
    let words: Vec<_> = line.split_whitespace().collect();
    let [cargo, install, options @ .., tool, shim] = &words[..] else { panic!("{line}") };
    assert_eq!([*cargo, *install], ["cargo", "install"]);
    let tag = format!("v{VERSION}");
    assert_eq!(options, ["--locked", "--git", "https://github.com/some/fork", "--tag", tag.as_str()]);
    for (package, manifest, program) in
        [(tool, "Cargo.toml", "codex-pool"), (shim, "shim/Cargo.toml", "codex")]
    {
        let manifest: toml::Table = read(&repository().join(manifest)).parse().expect("TOML");
        assert_eq!(manifest["package"]["name"].as_str(), Some(*package));
        assert_eq!(manifest["bin"][0]["name"].as_str(), Some(program));
    }
    let rust: toml::Table = read(&repository().join("Cargo.toml")).parse().expect("TOML");
    let rust = rust["workspace"]["package"]["rust-version"].as_str().expect("a version");
    assert!(notes.contains(&format!("Rust {rust} or later")), "{notes}");
}

#[derive(Deserialize)]
struct Action {
    inputs: BTreeMap<String, Input>,
    outputs: BTreeMap<String, serde_norway::Value>,
    runs: Runs,
}

#[derive(Deserialize)]
struct Input {
    description: String,
    default: String,
}

#[derive(Deserialize)]
struct Runs {
    using: String,
    steps: Vec<ActionStep>,
}

#[derive(Deserialize)]
struct ActionStep {
    run: String,
    shell: String,
    env: BTreeMap<String, String>,
}

fn action() -> Action {
    serde_norway::from_str(&read(&repository().join("action.yml"))).expect("action.yml")
}

/// Runs the action as a runner does.
fn run_action(place: &mut Place, inputs: &[(&str, &str)]) -> Vec<Said> {
    let action = action();
    let output = place.beside("output");
    fs::write(&output, "").expect("write");
    let path = place.beside("github_path");
    fs::write(&path, "").expect("write");
    let mut said = Vec::new();
    for step in &action.runs.steps {
        place.env("GITHUB_ACTION_PATH", repository()).env("GITHUB_OUTPUT", &output).env("GITHUB_PATH", &path);
        for (name, value) in &step.env {
            let value = match value.as_str() {
                "${{ github.action_repository || github.repository }}" => "some/fork",
                expression => {
                    let name =
                        expression.strip_prefix("${{ inputs.").and_then(|rest| rest.strip_suffix(" }}"));
                    let name = name.unwrap_or_else(|| panic!("{expression} is not known here"));
                    let given = inputs.iter().find(|(input, _)| *input == name).map(|(_, value)| *value);
                    given.unwrap_or(&action.inputs[name].default)
                }
            };
            place.env(name, value);
        }
        said.push(place.sh(&step.run));
        for name in step.env.keys() {
            place.unset(name);
        }
    }
    said
}

#[test]
fn action_is_safe_and_clean() {
    let action = action();
    assert_eq!(action.runs.using, "composite");
    assert!(action.outputs.contains_key("version"));
    assert!(action.inputs.values().all(|input| !input.description.is_empty() && input.default.is_empty()));
    for step in &action.runs.steps {
        assert!(!step.run.contains("${{"), "an expression in a script is an injection");
        assert_eq!(step.shell, "sh");
        if let Some(shellcheck) = needs("shellcheck") {
            let place = Place::new();
            let script = place.beside("step.sh");
            fs::write(&script, &step.run).expect("write");
            let out = Command::new(shellcheck).args(["-s", "sh"]).arg(&script).output().expect("shellcheck");
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
        }
    }
}

#[test]
fn action_installs_a_release_and_imports_accounts() {
    let backend = Backend::start();
    backend.add("alice");
    backend.add("bob");
    let documents = ["alice", "bob"].map(|user| backend.auth_json(user));
    let accounts: Vec<String> = ["alice", "bob"]
        .iter()
        .zip(&documents)
        .map(|(label, document)| format!("{{\"label\": \"{label}\", \"authJson\": {document}}}"))
        .collect();
    let store = format!("{{\"version\": 1, \"accounts\": [{}]}}", accounts.join(",\n"));

    let server = Releases::start().expect("server");
    let read = |file: std::path::PathBuf| fs::read(file).expect("a program");
    let archive =
        releases::archive(&[("codex-pool", &read(bins::codex_pool())), ("codex", &read(bins::shim()))]);
    server.publish(VERSION, &releases::target(), archive);
    // The newest is another one, which nobody asked for.
    server.publish("99.0.0", &releases::target(), releases::good_archive("99.0.0"));

    for (accounts, labels) in [("", &[][..]), (&documents[0], &["alice"]), (&store, &["alice", "bob"])] {
        let mut place = Place::new();
        place.env("CODEX_POOL_RELEASES", server.base()).add_tool("dirname");
        let said = run_action(&mut place, &[("accounts", accounts)]);
        for said in said {
            let said = said.ok();
            let secrets = backend.secrets();
            assert!(!secrets.iter().any(|s| said.out.contains(s) || said.err.contains(s)), "{said:?}");
        }
        let output = fs::read_to_string(place.beside("output")).expect("output");
        assert_eq!(output, format!("version={VERSION}\n"));
        // The steps that follow find the shim.
        let path = fs::read_to_string(place.beside("github_path")).expect("path");
        assert_eq!(path, format!("{}\n", place.pool().join("bin").display()));
        assert_eq!(
            place.sh("PATH=$(cat ../github_path); command -v codex").out.trim_end(),
            place.shim().display().to_string()
        );
        let list = place.sh("~/.codex-pool/bin/codex-pool list --json").ok().out;
        let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
        let there: Vec<_> = list["accounts"]
            .as_array()
            .expect("accounts")
            .iter()
            .map(|a| a["label"].as_str().expect("a label"))
            .collect();
        assert_eq!(there, labels);
    }

    // Another version, by name; and a document that is none fails the job.
    let mut place = Place::new();
    place.env("CODEX_POOL_RELEASES", server.base());
    let said = run_action(&mut place, &[("version", "v99.0.0")]);
    assert!(said.iter().all(|said| said.code == 0), "{said:?}");
    assert_eq!(fs::read_to_string(place.beside("output")).expect("output"), "version=99.0.0\n");
    let mut place = Place::new();
    place.env("CODEX_POOL_RELEASES", server.base());
    let said = run_action(&mut place, &[("accounts", "no document")]);
    assert_eq!((said[0].code, said[1].code), (0, 1), "{said:?}");
    // Without a place of its own it asks the action's repository.
    let mut place = Place::new();
    place.fake_tool("curl", "echo \"curl $*\" >&2; exit 22");
    let said = run_action(&mut place, &[]);
    let archive = releases::archive_path(VERSION, &releases::target());
    assert!(
        said[0].err.contains(&format!("https://github.com/some/fork/releases/{archive}.sha256")),
        "{said:?}"
    );
}

/// The instructions of the Containerfile, with continued lines as one.
fn instructions() -> Vec<(String, String)> {
    let text = read(&repository().join("Containerfile")).replace("\\\n", " ");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(' ').expect("an argument"))
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .collect()
}

#[test]
fn container_is_as_it_should_be() {
    let all = instructions();
    let of = |name: &str| -> Vec<&str> {
        all.iter().filter(|(n, _)| n == name).map(|(_, text)| text.as_str()).collect()
    };
    // Two stages, of images that are named by version.
    let stages = of("FROM");
    assert_eq!(stages.len(), 2);
    for stage in &stages {
        let tag = stage.split_whitespace().next().and_then(|image| image.rsplit_once(':')).expect("a tag").1;
        assert!(
            tag.starts_with(|c: char| c.is_ascii_digit()) && tag.matches('.').count() >= 2,
            "{stage} moves"
        );
    }
    let channel: toml::Table = read(&repository().join("rust-toolchain.toml")).parse().expect("TOML");
    let channel = channel["toolchain"]["channel"].as_str().expect("a version");
    assert!(stages[0].starts_with(&format!("docker.io/library/rust:{channel}-")), "{}", stages[0]);
    // Only the programs leave the first one.
    let last = all.iter().rposition(|(name, _)| name == "FROM").expect("FROM");
    for (_, text) in all[last..].iter().filter(|(name, _)| name == "COPY") {
        assert!(
            text.starts_with("--from=build /programs/") || text.starts_with("--chmod=755 packaging/"),
            "{text}"
        );
    }
    // It runs as a user that is not root, and nothing runs as root after that; its home is the volume.
    assert_eq!(of("USER"), ["1000"]);
    assert_eq!(of("VOLUME"), ["/home/codex"]);
    let user = all.iter().position(|(name, _)| name == "USER").expect("USER");
    assert!(all[user..].iter().all(|(name, _)| !["RUN", "COPY", "ADD"].contains(&name.as_str())));
    assert!(of("RUN").join(" ").contains("adduser -D -u 1000 -h /home/codex codex"));
    assert!(of("ADD").is_empty());
    // Nothing of the checkout's builder, and no script of npm's, comes in.
    assert!(of("RUN").iter().all(|run| !run.contains("npm install") || run.contains("--ignore-scripts")));
    let ignored = read(&repository().join(".containerignore"));
    assert!([".git", "target"].iter().all(|name| ignored.lines().any(|line| line == *name)));
    // The shim is first on PATH, and what starts it is there.
    assert!(of("ENV").contains(&"PATH=/opt/codex-pool/bin:$PATH"));
    assert_eq!(of("ENTRYPOINT"), ["[\"/opt/codex-pool/start\"]"]);
    if let Some(hadolint) = takes("hadolint") {
        let out = Command::new(hadolint).arg(repository().join("Containerfile")).output().expect("hadolint");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    }
}

#[test]
fn containers_start_makes_the_pool_and_becomes_the_command() {
    let mut place = Place::new();
    place.add_tool("dirname");
    let programs = place.beside("programs");
    fs::create_dir(&programs).expect("folder");
    for (name, program) in [("codex-pool", bins::codex_pool()), ("codex", bins::shim())] {
        std::os::unix::fs::symlink(program, programs.join(name)).expect("link");
    }
    let path = format!("{}:{}", programs.display(), place.beside("tools").display());
    place.env("PATH", path).fake_tool("codex", "echo \"the real one: $*\"");
    let start = repository().join("packaging/container-start.sh");
    // On an empty volume, and on one that was there before, with a link to another place.
    for _ in 0..2 {
        let said = place.run(&start, &["codex", "--version", "a b"]).ok();
        assert_eq!(said.out, "the real one: --version a b\n");
        let link = place.pool().join("bin/codex-pool");
        assert_eq!(fs::read_link(&link).expect("link"), programs.join("codex-pool"));
        assert_eq!(crate::place::mode(&place.pool()), 0o700);
        fs::remove_file(&link).expect("remove");
        std::os::unix::fs::symlink("/nowhere", &link).expect("link");
    }
    assert_eq!(place.run(&start, &["sh", "-c", "exit 7"]).code, 7);
    assert!(place.run(&start, &["codex-pool", "list"]).ok().err.is_empty());
}
