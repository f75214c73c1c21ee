//! What the launcher did, as the preload reports it, and what follows from two such reports: pure functions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;

use super::{Change, NativeStart, THROUGH_NODE};

/// What begins the report's line.
const MARK: &str = "codex-pool-start ";
/// What a shell or the system's own libraries set in every process that they are in.
const OF_SHELLS: [&str; 5] = ["_", "SHLVL", "PWD", "OLDPWD", "__CF_USER_TEXT_ENCODING"];

pub(super) type Variables = BTreeMap<String, String>;

/// A report of the preload.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Observed {
    pub(super) program: PathBuf,
    argv: Vec<String>,
    /// The environment that the launcher found, and the one that the program would get.
    given: Variables,
    after: Variables,
    /// Variables that the launcher looks at by their name.
    looks: BTreeSet<String>,
    /// Files and folders that it looks at, and folders whose entries it lists.
    pub(super) files: BTreeSet<PathBuf>,
    pub(super) folders: BTreeSet<PathBuf>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Refused { refused: String },
    Observed(Box<Observed>),
}

impl Observed {
    /// Finds the report in what Node printed.
    pub(super) fn parse(printed: &str) -> Result<Observed, String> {
        let line = printed.lines().find_map(|line| line.strip_prefix(MARK));
        let line = line.ok_or("the launcher ended without starting anything")?;
        match serde_json::from_str(line) {
            Ok(Line::Observed(observed)) => Ok(*observed),
            Ok(Line::Refused { refused }) => {
                Err(format!("the launcher does more than start Codex: {refused}"))
            }
            Err(_) => Err("the report makes no sense".to_owned()),
        }
    }

    /// Variables that the launcher changed.
    pub(super) fn changed(&self) -> BTreeSet<String> {
        let names = self.given.keys().chain(self.after.keys());
        names.filter(|name| self.given.get(*name) != self.after.get(*name)).cloned().collect()
    }
}

/// A run: arguments and environment that Node got, and what was reported.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) args: &'a [&'a str],
    pub(super) env: &'a Variables,
    pub(super) observed: Observed,
}

/// What the launcher starts, and the variables on which that may depend, if two runs with different arguments and
/// environments say the same.
pub(super) fn conclude(runs: [&Run<'_>; 2]) -> Result<(NativeStart, Vec<String>), String> {
    let [one, two] = runs;
    for run in runs {
        let of_node = |name: &&String| !OF_SHELLS.contains(&name.as_str());
        let names = run.env.keys().chain(run.observed.given.keys()).filter(of_node);
        if let Some(name) = names.into_iter().find(|name| run.env.get(*name) != run.observed.given.get(*name))
        {
            return Err(format!("the Node on PATH is a wrapper that changes {name}"));
        }
    }
    if one.observed.program != two.observed.program || !one.observed.program.is_absolute() {
        return Err("which program it is depends on more than the installation".to_owned());
    }
    let (argv0, before, after) = around(one).ok_or("the user's arguments are changed")?;
    if around(two) != Some((argv0, before, after)) {
        return Err("the arguments depend on the user's".to_owned());
    }
    let mut env = Vec::new();
    for name in one.observed.changed().union(&two.observed.changed()) {
        let of =
            |run: &Run<'_>| (run.observed.given.get(name).cloned(), run.observed.after.get(name).cloned());
        let change =
            change(of(one), of(two)).ok_or_else(|| format!("what becomes of {name} depends on more"))?;
        env.push((name.clone(), change));
    }
    let changed = |name: &String| env.iter().any(|(changed, _)| changed == name);
    let looks = one.observed.looks.union(&two.observed.looks);
    let unset: Vec<String> =
        looks.filter(|name| !changed(name) && !THROUGH_NODE.contains(&name.as_str())).cloned().collect();
    if let Some(name) = unset.iter().find(|name| one.env.contains_key(*name)) {
        return Err(format!("the launcher looks at {name}"));
    }
    let start = NativeStart {
        program: one.observed.program.clone(),
        argv0: argv0.to_owned(),
        before: before.to_vec(),
        after: after.to_vec(),
        env,
    };
    Ok((start, unset))
}

/// argv[0], and the arguments before and after the given ones.
fn around<'a>(run: &'a Run<'_>) -> Option<(&'a str, &'a [String], &'a [String])> {
    let (argv0, args) = run.observed.argv.split_first()?;
    let at = args.windows(run.args.len()).position(|part| part == run.args)?;
    Some((argv0, &args[..at], &args[at + run.args.len()..]))
}

/// The one change that explains both: (before, after) of a variable, in two runs. It must have been set in the second.
fn change(one: (Option<String>, Option<String>), two: (Option<String>, Option<String>)) -> Option<Change> {
    let old = two.0?;
    if one.1 == two.1 && one.0.as_ref() != Some(&old) {
        return Some(two.1.map_or(Change::Remove, Change::Set));
    }
    let new = two.1?;
    // The value may be in there more than once; the first place that explains both is it.
    let (old_one, new_one) = (one.0?, one.1?);
    if old_one == old || old.is_empty() || old_one.is_empty() {
        return None;
    }
    new.match_indices(&old)
        .map(|(at, _)| (&new[..at], &new[at + old.len()..]))
        .find(|(before, after)| new_one == [before, old_one.as_str(), after].concat())
        .map(|(before, after)| Change::Around(before.to_owned(), after.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(list: &[(&str, &str)]) -> Variables {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn observed(argv: &[&str], given: &[(&str, &str)], after: &[(&str, &str)], looks: &[&str]) -> Observed {
        Observed {
            program: "/p/codex".into(),
            argv: argv.iter().map(|a| (*a).to_owned()).collect(),
            given: variables(given),
            after: variables(after),
            looks: looks.iter().map(|l| (*l).to_owned()).collect(),
            files: BTreeSet::new(),
            folders: BTreeSet::new(),
        }
    }

    /// Two runs of a launcher that does this to the environment and looks at these variables.
    fn runs(
        launcher: impl Fn(&mut Variables),
        argv: impl Fn(&[&str]) -> Vec<String>,
        looks: &[&str],
    ) -> Result<(NativeStart, Vec<String>), String> {
        let envs = [
            variables(&[("PATH", "/a:/b")]),
            variables(&[("PATH", "/a:/b:/c"), ("X", "probe"), ("Y", "probe")]),
        ];
        let args: [&[&str]; 2] = [&["--version"], &["--help", ""]];
        let [one, two] = [0, 1].map(|i| {
            let mut after = envs[i].clone();
            launcher(&mut after);
            let mut observed = observed(&[], &[], &[], looks);
            (observed.given, observed.after) = (envs[i].clone(), after);
            observed.argv = argv(args[i]);
            Run { args: args[i], env: &envs[i], observed }
        });
        conclude([&one, &two])
    }

    fn plain(args: &[&str]) -> Vec<String> {
        [&["/p/codex"], args].concat().iter().map(|a| (*a).to_owned()).collect()
    }

    #[test]
    fn changes_that_say_the_same_in_two_environments_are_learnt() {
        let launcher = |env: &mut Variables| {
            env.insert("X".into(), "1".into());
            env.remove("Y");
            let path = format!("/vendor:{}", env["PATH"]);
            env.insert("PATH".into(), path);
        };
        let argv = |args: &[&str]| {
            [&["codex", "--first"], args, &["--last"]].concat().iter().map(|a| (*a).to_owned()).collect()
        };
        let (start, unset) = runs(launcher, argv, &["PATH", "npm_execpath", "Z"]).unwrap();
        assert_eq!(
            (start.argv0.as_str(), &start.before[..], &start.after[..]),
            ("codex", &["--first".to_owned()][..], &["--last".to_owned()][..])
        );
        let expected = [
            ("PATH", Change::Around("/vendor:".into(), String::new())),
            ("X", Change::Set("1".into())),
            ("Y", Change::Remove),
        ];
        assert_eq!(start.env, expected.map(|(name, change)| (name.to_owned(), change)));
        assert_eq!(unset, ["Z"]);
    }

    #[test]
    fn what_depends_on_more_is_not_learnt() {
        let set = |name: &'static str, value: fn(&Variables) -> String| {
            move |env: &mut Variables| {
                let value = value(env);
                env.insert(name.into(), value);
            }
        };
        // Keeps a value that is there; takes another variable's; sets one that the second run did not have.
        let keeps = set("X", |env| env.get("X").cloned().unwrap_or("1".into()));
        let copies = set("X", |env| env["PATH"].clone());
        let new = set("NEW", |_| "1".into());
        for error in [runs(keeps, plain, &[]), runs(copies, plain, &[]), runs(new, plain, &[])] {
            assert!(error.as_ref().is_err_and(|e| e.contains("depends on more")), "{error:?}");
        }
        let nothing = |_: &mut Variables| {};
        assert!(runs(nothing, plain, &["PATH"]).is_err_and(|e| e.contains("looks at PATH")));
        assert!(runs(nothing, |args| plain(&args[..1]), &[]).is_err(), "arguments that are left out");
        let depends = |args: &[&str]| [plain(args), vec!["more".into(); args.len()]].concat();
        assert!(runs(nothing, depends, &[]).is_err_and(|e| e.contains("depend on the user's")));
    }

    #[test]
    fn a_node_that_changes_the_environment_itself_is_none_to_go_round() {
        let env = variables(&[("PATH", "/a")]);
        let run = |given: &[(&str, &str)]| Run {
            args: &["x"],
            env: &env,
            observed: observed(&["c", "x"], given, given, &[]),
        };
        let plain = run(&[("PATH", "/a"), ("SHLVL", "1"), ("_", "/a/node")]);
        assert!(conclude([&plain, &plain]).is_ok());
        let wrapper = run(&[("PATH", "/tool:/a")]);
        assert!(conclude([&plain, &wrapper]).is_err_and(|e| e.contains("wrapper that changes PATH")));
    }

    #[test]
    fn a_report_is_found_among_other_output() {
        let refused = Observed::parse("hi\ncodex-pool-start {\"refused\":\"net.Socket.connect\"}\n");
        assert!(refused.is_err_and(|e| e.contains("net.Socket.connect")));
        let observed =
            r#"{"program":"/p","argv":["/p"],"given":{},"after":{},"looks":[],"files":["/f"],"folders":[]}"#;
        let found = Observed::parse(&format!("hi\ncodex-pool-start {observed}\n")).unwrap();
        assert_eq!(found.files, BTreeSet::from([PathBuf::from("/f")]));
        assert!(Observed::parse("hi\n").is_err_and(|e| e.contains("without starting")));
    }
}
