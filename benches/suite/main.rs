//! The benchmarks as one command: what a launch, `list`, `status` and a refresh cost in time and memory. `cargo bench` prints one
//! line per number, with its spread and limit. `-- --save FILE` keeps the lines, `-- --against FILE` compares with
//! them. The exit status is 1 if a limit is missed.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark reports")]

mod attend;
mod carry;
mod https;
mod launch;
mod list;
mod native;
mod pool;
mod programs;
mod refresh;
mod status;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use testkit::figures::{self, Figure};

use programs::Programs;

const USAGE: &str = "cargo bench -- [--save FILE] [--against FILE] [launch] [list] [status] [refresh] [native] [carry] [attend]";

type Part = (&'static str, fn(&Programs) -> Vec<Figure>);
const PARTS: [Part; 7] = [
    ("launch", launch::figures),
    ("list", list::figures),
    ("status", status::figures),
    ("refresh", refresh::figures),
    ("native", native::figures),
    ("carry", carry::figures),
    ("attend", attend::figures),
];

/// The arguments.
#[derive(Default)]
struct Args {
    save: Option<PathBuf>,
    against: Option<PathBuf>,
    /// The parts to measure. None means all.
    parts: Vec<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let args = parse(std::env::args().skip(1))?;
    let before = args.against.as_ref().map(|file| {
        let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let figures = figures::parse(&text).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok::<_, String>((text.lines().next().unwrap_or_default().to_owned(), figures))
    });
    let before = before.transpose()?;

    let programs = Programs::build();
    let mut measured = Vec::new();
    let setting = setting();
    for (name, part) in PARTS {
        if args.parts.is_empty() || args.parts.iter().any(|p| p == name) {
            eprintln!("measuring: {name}");
            measured.extend(part(&programs));
        }
    }

    println!("{setting}");
    match &before {
        Some((setting, before)) => {
            print!("{setting} (before)\n{}", figures::comparison(&measured, before));
        }
        None => print!("{}", figures::table(&measured)),
    }
    if let Some(file) = &args.save {
        let text = format!("{setting}\n{}", figures::table(&measured));
        std::fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    let missed: Vec<&str> = measured.iter().filter(|f| f.misses()).map(|f| f.name.as_str()).collect();
    if missed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("# beyond the limit: {}", missed.join("; "));
    Ok(ExitCode::FAILURE)
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args::default();
    while let Some(word) = words.next() {
        let mut file =
            || words.next().map(PathBuf::from).ok_or_else(|| format!("{word} needs a file\n{USAGE}"));
        match word.as_str() {
            // cargo passes it always.
            "--bench" => {}
            "--save" => args.save = Some(file()?),
            "--against" => args.against = Some(file()?),
            part if PARTS.iter().any(|(name, _)| *name == part) => args.parts.push(word),
            _ => return Err(format!("what is {word:?}?\n{USAGE}")),
        }
    }
    Ok(args)
}

/// Returns what was measured and where, as a comment. The numbers of a busy machine mean less.
fn setting() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok();
        output.filter(|o| o.status.success()).map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".into());
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| !s.is_empty());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    format!("# commit {commit}{}, {cores} cores, load {load}", if changed { " and changes" } else { "" })
}
