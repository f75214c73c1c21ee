//! The workflows cannot run here, but what they do is shell. Each `run` step runs as on a runner, and what the release's
//! steps make is installed from a release server.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use testkit::needs;
use testkit::releases::{self, Answer, Releases};

use crate::install::assert_installed;
use crate::place::{Place, mode, repository};
use crate::runner::{Runner, VERSION, steps, workflow};

#[test]
fn steps_are_safe_and_clean() {
    for name in ["ci.yml", "release.yml", "newest-codex.yml"] {
        let workflow = workflow(name);
        assert_eq!(workflow.permissions, BTreeMap::from([("contents".into(), "read".into())]), "{name}");
        for step in workflow.jobs.values().flat_map(|job| &job.steps) {
            let title = step.name.as_deref().or(step.uses.as_deref()).unwrap_or_default();
            if let Some(uses) = &step.uses {
                let commit = uses.split_once('@').expect("a version").1;
                assert!(
                    commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()),
                    "{uses} can move"
                );
            }
            let Some(run) = &step.run else { continue };
            assert!(!run.contains("${{"), "{title}: an expression in a script is an injection");
            let place = Place::new();
            let script = place.beside("step.sh");
            fs::write(&script, run).expect("write");
            if let Some(shellcheck) = needs("shellcheck") {
                let out =
                    Command::new(shellcheck).args(["-s", "bash"]).arg(&script).output().expect("shellcheck");
                assert!(out.status.success(), "{title}: {}", String::from_utf8_lossy(&out.stdout));
            }
        }
    }
}

#[test]
fn ci_checks_what_it_should_on_both_systems() {
    let workflow = workflow("ci.yml");
    let mut runner = Runner::new();
    // That one is run for each change anyway; here only what makes a runner ready for it.
    let (all, ready): (Vec<_>, Vec<_>) = steps(&workflow, "test").partition(|(_, run)| *run == ".ci/run");
    assert_eq!(all.len(), 1);
    for (step, run) in ready {
        let said = runner.step(step, &workflow.jobs["test"], "");
        assert_eq!(said.code, 0, "{run}: {said:?}");
    }
    runner.job(&workflow, "dependencies", "");
    let log = runner.log();
    assert!(log.contains("cargo deny --locked check\n"), "{log}");
    for script in ["install.sh", "scripts/build.sh", "skills/codex-pool/scripts/ensure-codex-pool.sh"] {
        assert!(log.contains("shellcheck ") && log.contains(script), "{script}: {log}");
    }
    let run = repository().join(".ci/run");
    assert_eq!(mode(&run) & 0o111, 0o111);
    let text = fs::read_to_string(&run).expect(".ci/run");
    let checks =
        ["cargo fmt --all --check", "cargo clippy ", " -D warnings", "CODEX_POOL_TEST_ALL=1 cargo test "];
    for wanted in checks.into_iter().chain(["--offline check "]) {
        assert!(text.contains(wanted), "{wanted}");
    }
    // What npm brings does not run while it is installed.
    let kit = repository().join("tests/testkit/src/real_codex.rs");
    assert!(text.contains("npm install --silent --ignore-scripts "));
    assert!(fs::read_to_string(kit).expect("real_codex.rs").contains("\"install\", \"--ignore-scripts\", "));
    let text = fs::read_to_string(repository().join(".github/workflows/ci.yml")).expect("ci.yml");
    assert!(text.contains("os: [ubuntu-24.04, macos-15]"));
}

#[test]
fn release_has_four_targets_and_its_rights_only_where_it_publishes() {
    let workflow = workflow("release.yml");
    let matrix = &workflow.jobs["build"].strategy.as_ref().expect("strategy").matrix;
    let mut targets: Vec<_> = matrix.include.iter().map(|entry| entry["target"].as_str()).collect();
    targets.sort();
    assert_eq!(
        targets,
        [
            "aarch64-apple-darwin",
            "aarch64-unknown-linux-musl",
            "x86_64-apple-darwin",
            "x86_64-unknown-linux-musl"
        ]
    );
    assert!(workflow.jobs["build"].permissions.is_empty());
    let publish = &workflow.jobs["publish"];
    let rights: Vec<_> = publish.permissions.keys().map(String::as_str).collect();
    assert_eq!(rights, ["attestations", "contents", "id-token"]);
    assert!(
        publish
            .steps
            .iter()
            .any(|s| s.uses.as_deref().is_some_and(|u| u.contains("attest-build-provenance")))
    );
}

#[test]
fn release_archives_can_be_installed() {
    let workflow = workflow("release.yml");
    let mut runner = Runner::new();
    runner.release(&workflow);
    let log = runner.log();
    assert!(log.contains("repository: some/fork") && !log.contains("repository: none"), "{log}");
    let published: Vec<_> = log.lines().filter(|line| line.starts_with("gh ")).collect();
    let [create, edit] = published[..] else { panic!("{log}") };
    let notes = fs::read_to_string(runner.temp().join("notes.md")).expect("notes");
    assert!(create.contains(" --notes-file ") && notes.contains("github.com/some/fork/releases/"), "{notes}");
    let changes = fs::read_to_string(repository().join("CHANGELOG.md")).expect("CHANGELOG.md");
    let change = changes.lines().find(|line| line.starts_with("- The shim: ")).expect("a change");
    assert!(notes.contains(change) && !notes.contains("[Unreleased]"), "{notes}");
    assert!(create.starts_with(&format!("gh release create v{VERSION} --draft --verify-tag")), "{create}");
    assert_eq!(edit, format!("gh release edit v{VERSION} --draft=false --latest"));

    // Every file that is there is published, and the server gives each as GitHub would.
    let server = Releases::start().expect("server");
    for file in fs::read_dir(runner.checkout.join("dist")).expect("dist") {
        let file = file.expect("entry").path();
        let name = file.file_name().expect("name").to_str().expect("text");
        assert!(create.contains(&format!("dist/{name}")), "{name} is not published: {create}");
        for folder in [format!("download/v{VERSION}"), "latest/download".to_owned()] {
            server.put(&format!("{folder}/{name}"), Answer::Whole(fs::read(&file).expect("read")));
        }
    }
    let dist = runner.checkout.join("dist");
    let list = format!("tar -tzf '{}'/codex-pool-{VERSION}-{}.tar.gz", dist.display(), releases::target());
    assert_eq!(
        runner.place.sh(&list).ok().out,
        "codex-pool\ncodex\nINSTALL.md\nLICENSE-MIT\nLICENSE-APACHE\n"
    );
    let installer = fs::read(dist.join("install.sh")).expect("install.sh");
    assert!(String::from_utf8_lossy(&installer).contains("\nRELEASE_REPOSITORY=\"some/fork\"\n"));
    let mut place = Place::new();
    place.env("CODEX_POOL_RELEASES", server.base()).pipe(&installer, &[]).ok();
    assert_installed(&place, VERSION);

    // The skill knows the repository, and the installer's checksum, which no server can change any more.
    let skill = dist.join(format!("codex-pool-skill-{VERSION}.tar.gz"));
    let mut place = Place::new();
    place.env("CODEX_POOL_RELEASES", server.base()).fake_tool("codex", "exit 0");
    place.sh(&format!("tar -xzf '{}'", skill.display())).ok();
    let script = place.home.join("codex-pool/scripts/ensure-codex-pool.sh");
    let text = fs::read_to_string(&script).expect("script");
    assert!(text.contains("\nRELEASE_REPOSITORY=\"some/fork\"\n"));
    assert!(text.contains(&format!("\nINSTALLER_SHA256=\"{}\"\n", releases::sha256(&installer))));
    place.env("CODEX_POOL_INSTALL_APPROVED", "1").run(&script, &[]).ok();
    assert_installed(&place, VERSION);
    fs::remove_file(place.tool()).expect("remove");
    let other = b"touch \"$HOME/evil\"\n".to_vec();
    let path = format!("download/v{VERSION}/install.sh");
    server.put(&format!("{path}.sha256"), Answer::Whole(releases::checksum_file(&other, "install.sh")));
    server.put(&path, Answer::Whole(other));
    place.run(&script, &[]).fails_with("is not the published one");
    assert!(!place.home.join("evil").exists());
}

#[test]
fn tag_that_is_not_the_version_releases_nothing() {
    let workflow = workflow("release.yml");
    let mut runner = Runner::new();
    runner.reference = "v9.9.9".to_owned();
    let (first, _) = steps(&workflow, "check").next().expect("a step");
    assert_ne!(runner.step(first, &workflow.jobs["check"], "").code, 0);
    assert!(runner.log().is_empty());
}

#[test]
fn release_is_from_main_with_green_ci_and_somebodys_agreement() {
    let workflow = workflow("release.yml");
    let job = &workflow.jobs["check"];
    assert_eq!(workflow.jobs["build"].needs.as_deref(), Some("check"));
    assert_eq!(workflow.jobs["publish"].needs.as_deref(), Some("build"));
    assert_eq!(workflow.jobs["publish"].environment.as_deref(), Some("release"));
    assert!(job.permissions.values().all(|right| right == "read"), "{:?}", job.permissions);
    let Some(git) = needs("git") else { return };

    let mut runner = Runner::new();
    let git = |runner: &mut Runner, arguments: &str| -> String {
        let script = format!(
            "cd '{}' && '{}' -c user.name=x -c user.email=x@example.com {arguments}",
            runner.checkout.display(),
            git.display()
        );
        runner.place.sh(&script).ok().out.trim().to_owned()
    };
    runner.place.add_tool("git");
    git(&mut runner, "init -q -b main");
    git(&mut runner, "commit -q --allow-empty -m main");
    git(&mut runner, "update-ref refs/remotes/origin/main HEAD");
    let on_main = git(&mut runner, "rev-parse HEAD");
    git(&mut runner, "commit -q --allow-empty -m aside");
    let aside = git(&mut runner, "rev-parse HEAD");

    // The service: how many runs of CI were green for which commit.
    for (commit, green, released) in [(&on_main, "1", true), (&on_main, "0", false), (&aside, "1", false)] {
        let answer = format!(
            "case \"$*\" in *'--workflow ci.yml --branch main --event push --commit {commit} --status success'*) echo {green} ;; \
             *) exit 1 ;; esac"
        );
        runner.place.fake_tool("gh", &answer).env("GITHUB_SHA", commit);
        let all_well = steps(&workflow, "check").all(|(step, _)| runner.step(step, job, "").code == 0);
        assert_eq!(all_well, released, "{commit}, {green} green");
    }
}

#[test]
fn version_with_a_dash_is_never_the_newest() {
    let workflow = workflow("release.yml");
    let mut runner = Runner::new();
    runner.reference = "v1.0.0-rc.1".to_owned();
    let (last, _) = steps(&workflow, "publish").last().expect("a step");
    runner.step(last, &workflow.jobs["publish"], "").ok();
    assert!(
        runner.log().ends_with("gh release edit v1.0.0-rc.1 --draft=false --prerelease\n"),
        "{}",
        runner.log()
    );
}

#[test]
fn builds_use_the_tested_version_of_rust() {
    let read = |name: &str| -> toml::Table {
        fs::read_to_string(repository().join(name)).expect(name).parse().expect(name)
    };
    let toolchain = read("rust-toolchain.toml");
    let toolchain = toolchain["toolchain"].as_table().expect("a table");
    assert_eq!(toolchain.keys().collect::<Vec<_>>(), ["channel"], "anything else makes rustup download");
    let channel = toolchain["channel"].as_str().expect("a version");
    let oldest = read("Cargo.toml")["workspace"]["package"]["rust-version"].as_str().expect("it").to_owned();
    assert!(
        channel.starts_with(&format!("{oldest}.")),
        "{channel} is not the oldest version that is promised"
    );
    for (name, job) in [("ci.yml", "test"), ("release.yml", "build"), ("newest-codex.yml", "test")] {
        let workflow = workflow(name);
        let mut runner = Runner::new();
        let rust = steps(&workflow, job).find(|(step, _)| step.name.as_deref() == Some("Rust"));
        runner.step(rust.expect("a step").0, &workflow.jobs[job], "").ok();
        let log = runner.log();
        assert!(log.starts_with(&format!("rustup toolchain install {channel} ")), "{name}: {log}");
    }
}
