//! `doctor`: checks everything that a launch depends on, says what is wrong and what to do, and with `--fix` fixes what
//! is safe to fix. A check changes nothing. What can be fixed is data ([`Fix`]), which only `doctor/fix.rs` carries
//! out. A check that fails does not keep the others from being made.

mod accounts;
mod bundle;
mod conflicts;
mod environment;
mod facts;
mod fix;
mod folders;
mod main_home;
mod network;
mod pool;
mod programs;
mod share;
mod shells;

use std::process::ExitCode;

use codex_pool_core::env::Env;
use codex_pool_core::{Error, Result};
use serde_json::{Value, json};

use crate::cli::DoctorArgs;
use crate::ui::findings::{self, Finding, Grade, Show};
use facts::Facts;
use fix::Fix;

/// The result of one check.
#[derive(Debug)]
struct Check {
    /// The name of the check. It is the same in every version, and several results can have it.
    id: &'static str,
    grade: Grade,
    message: String,
    /// What to type or do.
    advice: Option<String>,
    /// What `--fix` does about it.
    fix: Option<Fix>,
}

impl Check {
    fn of(id: &'static str, grade: Grade, message: impl Into<String>) -> Check {
        Check { id, grade, message: message.into(), advice: None, fix: None }
    }

    fn ok(id: &'static str, message: impl Into<String>) -> Check {
        Check::of(id, Grade::Ok, message)
    }

    /// Worth knowing. Everything works.
    fn warn(id: &'static str, message: impl Into<String>) -> Check {
        Check::of(id, Grade::Warn, message)
    }

    /// A problem.
    fn fail(id: &'static str, message: impl Into<String>) -> Check {
        Check::of(id, Grade::Fail, message)
    }

    /// A problem that an error describes. `advice` is for an error without a hint.
    fn error(id: &'static str, error: Error, advice: impl Into<String>) -> Check {
        Check::fail(id, error.message).advice(error.hint.unwrap_or_else(|| advice.into()))
    }

    /// Says what to type or do.
    fn advice(self, advice: impl Into<String>) -> Check {
        Check { advice: Some(advice.into()), ..self }
    }

    /// Says that `--fix` fixes it.
    fn fix(self, fix: Fix) -> Check {
        Check { fix: Some(fix), ..self.advice("`codex-pool doctor --fix`") }
    }
}

pub(super) fn run(env: &Env, args: &DoctorArgs) -> Result<ExitCode> {
    let mut checks = offline_checks(env);
    let mut fixed = Vec::new();
    if args.fix {
        let (done, failed) = fix::all(env, checks.into_iter().filter_map(|check| check.fix));
        fixed = done;
        checks = offline_checks(env);
        checks.extend(failed.into_iter().map(|why| Check::fail("fix", why)));
    }
    if args.online {
        checks.extend(network::checks(&Facts::read(env)));
    }
    if let Some(file) = &args.bundle {
        bundle::write(env, file, &as_json(&checks, None))?;
    }
    if args.json {
        crate::ui::json(&as_json(&checks, args.fix.then_some(&fixed)));
    } else {
        let findings: Vec<Finding> = checks.iter().map(finding).collect();
        findings::print(&findings, &fixed, Show { all: args.verbose, home: env.home() });
    }
    let fine = checks.iter().all(|check| check.grade != Grade::Fail);
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes every check that needs no network.
fn offline_checks(env: &Env) -> Vec<Check> {
    let facts = Facts::read(env);
    let mut checks = programs::checks(&facts);
    checks.extend(environment::checks(&facts));
    checks.extend(pool::checks(&facts));
    checks.extend(main_home::checks(&facts));
    checks.extend(conflicts::checks(&facts));
    checks.extend(accounts::checks(&facts));
    checks.extend(folders::checks(&facts));
    checks
}

fn finding(check: &Check) -> Finding {
    Finding {
        grade: check.grade,
        about: check.id,
        message: check.message.clone(),
        advice: check.advice.clone(),
    }
}

/// Returns `{"schema":1,"ok":…,"checks":[…]}`, and `"fixed":[…]` with `--fix`.
fn as_json(checks: &[Check], fixed: Option<&Vec<String>>) -> Value {
    let entry =
        |c: &Check| json!({"id": c.id, "status": c.grade.as_str(), "message": c.message, "fix": c.advice});
    let mut json = json!({
        "schema": 1,
        "ok": checks.iter().all(|check| check.grade != Grade::Fail),
        "checks": checks.iter().map(entry).collect::<Vec<_>>(),
    });
    if let Some(fixed) = fixed {
        json["fixed"] = json!(fixed);
    }
    json
}
