//! A runner of the workflows: each `run` step runs in a copy of the repository, with stand-ins for the tools that only a
//! runner has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use testkit::find_program;
use testkit::releases;

use crate::place::{Place, Said, repository, write_program};

/// The workspace's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the steps use of the repository.
const COPIED: [&str; 11] = [
    "CHANGELOG.md",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "action.yml",
    "docs",
    "install.sh",
    "rust-toolchain.toml",
    "scripts",
    "shim",
    "skills",
];

#[derive(Deserialize)]
pub(crate) struct Workflow {
    pub(crate) permissions: BTreeMap<String, String>,
    pub(crate) jobs: BTreeMap<String, Job>,
}

#[derive(Deserialize)]
pub(crate) struct Job {
    #[serde(default)]
    pub(crate) needs: Option<String>,
    #[serde(default)]
    pub(crate) environment: Option<String>,
    #[serde(default)]
    pub(crate) permissions: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) strategy: Option<Strategy>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Deserialize)]
pub(crate) struct Strategy {
    pub(crate) matrix: Matrix,
}

#[derive(Deserialize)]
pub(crate) struct Matrix {
    #[serde(default)]
    pub(crate) include: Vec<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
pub(crate) struct Step {
    pub(crate) name: Option<String>,
    pub(crate) uses: Option<String>,
    pub(crate) run: Option<String>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
}

/// Reads a workflow of this repository.
pub(crate) fn workflow(name: &str) -> Workflow {
    let file = repository().join(".github/workflows").join(name);
    serde_norway::from_str(&fs::read_to_string(&file).expect(name)).expect(name)
}

/// Returns the steps of a job that run a script.
pub(crate) fn steps<'a>(workflow: &'a Workflow, job: &str) -> impl Iterator<Item = (&'a Step, &'a str)> {
    workflow.jobs[job].steps.iter().filter_map(|step| Some((step, step.run.as_deref()?)))
}

/// A runner: a copy of the repository's files, stand-ins for its tools, and a log of what they were asked.
pub(crate) struct Runner {
    pub(crate) place: Place,
    pub(crate) checkout: PathBuf,
    log: PathBuf,
    pub(crate) reference: String,
}

impl Runner {
    pub(crate) fn new() -> Runner {
        let mut place = Place::new();
        let (checkout, log) = (place.beside("checkout"), place.beside("log"));
        for name in COPIED {
            copy(&repository().join(name), &checkout.join(name));
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
        for tool in ["basename", "bash", "sort", "touch", "tr"] {
            place.add_tool(tool);
        }
        Runner { place, checkout, log, reference: format!("v{VERSION}") }
    }

    /// Where a step may leave files that no other job sees.
    pub(crate) fn temp(&self) -> PathBuf {
        self.place.beside("temp")
    }

    /// Runs a step as a runner does, with the workflow's expressions filled in.
    pub(crate) fn step(&mut self, step: &Step, job: &Job, target: &str) -> Said {
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
        let temp = self.temp();
        fs::create_dir_all(&temp).expect("a folder");
        self.place
            .env("GITHUB_SERVER_URL", "https://github.com")
            .env("GITHUB_REPOSITORY", "some/fork")
            .env("GITHUB_REF_NAME", reference)
            .env("GITHUB_RUN_ID", "17")
            .env("GITHUB_STEP_SUMMARY", temp.join("summary.md"))
            .env("RUNNER_TEMP", temp);
        let run = step.run.as_deref().expect("a step that runs");
        let script = format!("cd '{}'\n{run}", self.checkout.display());
        let bash = find_program("bash").expect("bash");
        self.place.shell(&[bash.as_os_str(), "-e".as_ref()]).sh(&script)
    }

    pub(crate) fn job(&mut self, workflow: &Workflow, job: &str, target: &str) {
        for (step, run) in steps(workflow, job) {
            let said = self.step(step, &workflow.jobs[job], target);
            assert_eq!(said.code, 0, "{run}: {said:?}");
        }
    }

    /// Makes a release in `dist`: every target, then what belongs to all of them.
    pub(crate) fn release(&mut self, workflow: &Workflow) {
        let matrix = &workflow.jobs["build"].strategy.as_ref().expect("strategy").matrix;
        for entry in &matrix.include {
            self.job(workflow, "build", &entry["target"]);
        }
        self.job(workflow, "publish", "");
    }

    pub(crate) fn log(&self) -> String {
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
