//! The workflows cannot run here, but what they do is shell: each `run` step runs with stand-ins for the tools that
//! only a runner has, and what the release's steps make is installed from a release server.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use testkit::find_program;
use testkit::releases::{self, Answer, Releases};

use crate::install::assert_installed;
use crate::place::{Place, mode, repository, write_program};

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Deserialize)]
struct Workflow {
    permissions: BTreeMap<String, String>,
    jobs: BTreeMap<String, Job>,
}

#[derive(Deserialize)]
struct Job {
    #[serde(default)]
    permissions: BTreeMap<String, String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    strategy: Option<Strategy>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Strategy {
    matrix: Matrix,
}

#[derive(Deserialize)]
struct Matrix {
    #[serde(default)]
    include: Vec<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Step {
    name: Option<String>,
    uses: Option<String>,
    run: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

fn workflow(name: &str) -> Workflow {
    let file = repository().join(".github/workflows").join(name);
    serde_norway::from_str(&fs::read_to_string(&file).expect(name)).expect(name)
}

fn steps<'a>(workflow: &'a Workflow, job: &str) -> impl Iterator<Item = (&'a Step, &'a str)> {
    workflow.jobs[job].steps.iter().filter_map(|step| Some((step, step.run.as_deref()?)))
}

/// A runner: a copy of the repository's files, stand-ins for its tools, and a log of what they were asked.
struct Runner {
    place: Place,
    checkout: PathBuf,
    log: PathBuf,
    reference: String,
}

impl Runner {
    fn new() -> Runner {
        let mut place = Place::new();
        let (checkout, log) = (place.beside("checkout"), place.beside("log"));
        for folder in
            ["scripts", "skills", "shim", "install.sh", "Cargo.toml", "LICENSE-MIT", "LICENSE-APACHE"]
        {
            copy(&repository().join(folder), &checkout.join(folder));
        }
        let made = place.beside("made");
        write_program(&made.join("codex-pool"), &releases::tool(VERSION));
        write_program(&made.join("codex"), &releases::shim(VERSION));
        let note = format!("echo \"${{0##*/}} $*\" >>'{}'", log.display());
        for tool in ["sudo", "brew", "rustup", "gh", "shellcheck"] {
            place.fake_tool(tool, &note);
        }
        place.fake_tool("rustc", "echo host: x86_64-unknown-linux-gnu");
        // It puts the stand-ins where cargo would put the programs, and notes what is baked into them.
        let cargo = format!(
            "{note}\necho \"repository: ${{CODEX_POOL_RELEASE_REPOSITORY:-none}}\" >>'{}'\n\
             while [ $# -gt 0 ]; do case $1 in --target) target=$2 ;; --target-dir) dir=$2 ;; esac; shift; done\n\
             [ -z \"${{dir:-}}\" ] || {{ mkdir -p \"$dir/$target/release\" && cp '{}'/* \"$dir/$target/release\"; }}",
            log.display(),
            made.display()
        );
        place.fake_tool("cargo", &cargo);
        for tool in ["basename", "bash", "tr"] {
            place.add_tool(tool);
        }
        Runner { place, checkout, log, reference: format!("v{VERSION}") }
    }

    /// Runs a step as a runner does, with the workflow's expressions filled in.
    fn step(&mut self, step: &Step, job: &Job, target: &str) -> crate::place::Said {
        let known = [
            ("${{ github.repository }}", "some/fork"),
            ("${{ github.token }}", "a token"),
            ("${{ matrix.target }}", target),
        ];
        for (name, value) in job.env.iter().chain(&step.env) {
            let value = known.iter().find(|(e, _)| e == value).map_or(value.as_str(), |(_, value)| value);
            assert!(!value.contains("${{"), "{name}: {value} is not known here");
            self.place.env(name, value);
        }
        let reference = self.reference.clone();
        self.place.env("GITHUB_REPOSITORY", "some/fork").env("GITHUB_REF_NAME", reference);
        let run = step.run.as_deref().expect("a step that runs");
        let script = format!("cd '{}'\n{run}", self.checkout.display());
        let bash = find_program("bash").expect("bash");
        self.place.shell(&[bash.as_os_str(), "-e".as_ref()]).sh(&script)
    }

    fn job(&mut self, workflow: &Workflow, job: &str, target: &str) {
        for (step, run) in steps(workflow, job) {
            let said = self.step(step, &workflow.jobs[job], target);
            assert_eq!(said.code, 0, "{run}: {said:?}");
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        for entry in fs::read_dir(from).expect("folder") {
            let entry = entry.expect("entry");
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().expect("folder")).expect("folder");
        fs::copy(from, to).expect("copy");
    }
}

#[test]
fn steps_are_safe_and_clean() {
    for name in ["ci.yml", "release.yml"] {
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
            if let Some(shellcheck) = find_program("shellcheck") {
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
    let log = runner.log();
    for script in ["install.sh", "scripts/build.sh", "skills/codex-pool/scripts/ensure-codex-pool.sh"] {
        assert!(log.contains("shellcheck ") && log.contains(script), "{script}: {log}");
    }
    let run = repository().join(".ci/run");
    assert_eq!(mode(&run) & 0o111, 0o111);
    let text = fs::read_to_string(&run).expect(".ci/run");
    for wanted in ["cargo fmt --all --check", "cargo clippy ", " -D warnings", "cargo test "] {
        assert!(text.contains(wanted), "{wanted}");
    }
    let text = fs::read_to_string(repository().join(".github/workflows/ci.yml")).expect("ci.yml");
    assert!(text.contains("os: [ubuntu-24.04, macos-15]"));
}

#[test]
fn a_release_has_four_targets_and_its_rights_only_where_it_publishes() {
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
fn what_the_release_makes_can_be_installed() {
    let workflow = workflow("release.yml");
    let mut runner = Runner::new();
    runner.job(&workflow, "build", &releases::target());
    runner.job(&workflow, "publish", "");
    let log = runner.log();
    assert!(log.contains("repository: some/fork") && !log.contains("repository: none"), "{log}");
    let published: Vec<_> = log.lines().filter(|line| line.starts_with("gh ")).collect();
    let [create, edit] = published[..] else { panic!("{log}") };
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
    assert_eq!(runner.place.sh(&list).ok().out, "codex-pool\ncodex\nLICENSE-MIT\nLICENSE-APACHE\n");
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
fn a_tag_that_is_not_the_version_releases_nothing() {
    let workflow = workflow("release.yml");
    let mut runner = Runner::new();
    runner.reference = "v9.9.9".to_owned();
    let (first, _) = steps(&workflow, "build").next().expect("a step");
    assert_ne!(runner.step(first, &workflow.jobs["build"], "").code, 0);
    assert!(runner.log().is_empty());
}

#[test]
fn a_version_with_a_dash_is_never_the_newest() {
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
