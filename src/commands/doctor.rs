//! `doctor`: looks at everything that a launch depends on, says what is wrong and what mends it, and
//! with `--fix` mends what is safe. Looking changes nothing; what can be mended is data ([`Mend`]) that
//! only `doctor/mend.rs` carries out. Nothing that is broken keeps the other checks from being made.

mod accounts;
mod codex_home;
mod network;
mod pool;
mod programs;
mod repair;
mod scene;
mod surroundings;

use std::process::ExitCode;

use codex_pool_core::Result;
use codex_pool_core::env::Env;
use serde_json::{Value, json};

use crate::cli::DoctorArgs;
use crate::ui::findings::{self, Finding, Grade};
use repair::Repair;
use scene::Scene;

/// One thing that was looked at.
#[derive(Debug)]
struct Check {
    /// What it is about; the same in every version, and repeated where there are several findings.
    id: &'static str,
    grade: Grade,
    message: String,
    /// What to type or do.
    fix: Option<String>,
    /// What `--fix` does about it.
    mend: Option<Repair>,
}

impl Check {
    fn of(id: &'static str, grade: Grade, message: impl Into<String>) -> Check {
        Check { id, grade, message: message.into(), fix: None, mend: None }
    }

    fn ok(id: &'static str, message: impl Into<String>) -> Check {
        Check::of(id, Grade::Ok, message)
    }

    /// Something to know; everything works.
    fn warn(id: &'static str, message: impl Into<String>) -> Check {
        Check::of(id, Grade::Warn, message)
    }

    /// Something that needs the user.
    fn fail(id: &'static str, message: impl Into<String>) -> Check {
        Check::of(id, Grade::Fail, message)
    }

    /// What to type or do.
    fn fix(self, fix: impl Into<String>) -> Check {
        Check { fix: Some(fix.into()), ..self }
    }

    /// `--fix` does it.
    fn mend(self, mend: Repair) -> Check {
        Check { mend: Some(mend), ..self.fix("`codex-pool doctor --fix`") }
    }
}

pub(super) fn run(env: &Env, args: &DoctorArgs) -> Result<ExitCode> {
    let mut checks = look(env);
    let mut mended = Vec::new();
    if args.fix {
        let (done, failed) = repair::all(env, checks.into_iter().filter_map(|check| check.mend));
        mended = done;
        checks = look(env);
        checks.extend(failed.into_iter().map(|why| Check::fail("fix", why)));
    }
    if args.online {
        checks.extend(network::checks(&Scene::set(env)));
    }
    if args.json {
        crate::ui::json(&as_json(&checks, args.fix.then_some(&mended)));
    } else {
        let findings: Vec<Finding> = checks.iter().map(finding).collect();
        findings::print(&findings, &mended);
    }
    let fine = checks.iter().all(|check| check.grade != Grade::Fail);
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes every check that needs no network.
fn look(env: &Env) -> Vec<Check> {
    let scene = Scene::set(env);
    let mut checks = programs::checks(&scene);
    checks.extend(surroundings::checks(&scene));
    checks.extend(pool::checks(&scene));
    checks.extend(codex_home::checks(&scene));
    checks.extend(accounts::checks(&scene));
    checks
}

fn finding(check: &Check) -> Finding {
    Finding { grade: check.grade, about: check.id, message: check.message.clone(), fix: check.fix.clone() }
}

/// `{"schema":1,"ok":…,"checks":[…]}`, and `"mended":[…]` with `--fix`.
fn as_json(checks: &[Check], mended: Option<&Vec<String>>) -> Value {
    let entry =
        |c: &Check| json!({"id": c.id, "status": c.grade.as_str(), "message": c.message, "fix": c.fix});
    let mut json = json!({
        "schema": 1,
        "ok": checks.iter().all(|check| check.grade != Grade::Fail),
        "checks": checks.iter().map(entry).collect::<Vec<_>>(),
    });
    if let Some(mended) = mended {
        json["mended"] = json!(mended);
    }
    json
}
