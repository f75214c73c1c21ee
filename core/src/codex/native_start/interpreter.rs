//! Which Node runs a launcher, and which script: `#!/usr/bin/env node`, Node by its path, or the shell script that
//! pnpm puts in front of the JavaScript. Reads, and starts nothing.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::env::Env;
use crate::files;

/// pnpm's scripts have about 2 KB.
const HEAD: u64 = 16 << 10;

/// What a launcher comes down to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// The JavaScript, by the path that Node gets.
    pub(super) path: PathBuf,
    /// Node.
    pub(super) node: PathBuf,
    /// NODE_PATH as pnpm's script sets it.
    pub(super) node_path: Option<String>,
}

impl Script {
    /// `None` if it is no script for Node, or which Node that would be depends on the current folder.
    pub(super) fn of(launcher: &Path, env: &Env) -> Option<Script> {
        if !launcher.is_absolute() {
            return None;
        }
        let mut file = files::open(launcher).ok()?;
        let mut mark = [0; 2];
        file.read_exact(&mut mark).ok()?;
        if mark != *b"#!" {
            return None;
        }
        let mut text = Vec::new();
        file.take(HEAD).read_to_end(&mut text).ok()?;
        let text = String::from_utf8(text).ok()?;
        let (first, rest) = text.split_once('\n')?;
        let on_path = || node_on_path(env);
        let plain = |node: PathBuf| Script { path: launcher.to_owned(), node, node_path: None };
        match first.trim() {
            "/usr/bin/env node" | "/bin/env node" => Some(plain(on_path()?)),
            "/bin/sh" => {
                let shim = PnpmScript::parse(rest)?;
                let dir = launcher.parent()?;
                let beside = dir.join("node");
                let node = if is_executable(&beside) { beside } else { on_path()? };
                Some(Script {
                    path: dir.join(shim.target),
                    node,
                    node_path: shim.node_path.map(str::to_owned),
                })
            }
            node if node.ends_with("/node") && node.starts_with('/') && !node.contains([' ', '\t']) => {
                Some(plain(PathBuf::from(node)))
            }
            _ => None,
        }
    }
}

/// The first `node` on PATH, as `env` finds it.
fn node_on_path(env: &Env) -> Option<PathBuf> {
    let found =
        std::env::split_paths(env.get("PATH")?).map(|dir| dir.join("node")).find(|p| is_executable(p))?;
    found.is_absolute().then_some(found)
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// The folder of the package that a script belongs to: the nearest one above with a `package.json`.
pub(super) fn package_of(script: &Path) -> Option<PathBuf> {
    let real = std::fs::canonicalize(script).ok()?;
    real.ancestors().skip(1).find(|dir| dir.join("package.json").is_file()).map(Path::to_owned)
}

/// The script that pnpm makes of a package's `bin` (`@zkochan/cmd-shim`): it sets NODE_PATH and becomes Node.
#[derive(Debug, PartialEq, Eq)]
struct PnpmScript<'a> {
    /// Relative to the script's folder.
    target: &'a str,
    node_path: Option<&'a str>,
}

impl<'a> PnpmScript<'a> {
    /// Understands the text after `#!/bin/sh`, if it is that script and nothing else.
    fn parse(text: &'a str) -> Option<Self> {
        let mut in_case = false;
        // What it does on Windows is of no matter here.
        let mut lines = text.lines().map(str::trim).filter(|line| {
            let skipped = in_case || *line == "case `uname` in";
            in_case = skipped && *line != "esac";
            !skipped && !line.is_empty()
        });
        let mut next = || lines.next();
        if next()? != r#"basedir=$(dirname "$(echo "$0" | sed -e 's,\\,/,g')")"# {
            return None;
        }
        let mut line = next()?;
        let mut node_path = None;
        if line == r#"if [ -z "$NODE_PATH" ]; then"# {
            let value = plain(next()?.strip_prefix("export NODE_PATH=\"")?.strip_suffix('"')?)?;
            let other = (next()? == "else", next()?, next()? == "fi");
            if other != (true, format!("export NODE_PATH=\"{value}:$NODE_PATH\"").as_str(), true) {
                return None;
            }
            node_path = Some(value);
            line = next()?;
        }
        if line != r#"if [ -x "$basedir/node" ]; then"# {
            return None;
        }
        let target =
            plain(next()?.strip_prefix(r#"exec "$basedir/node"  "$basedir/"#)?.strip_suffix(r#"" "$@""#)?)?;
        let end = (next()? == "else", next()?, next()? == "fi", next());
        let other = format!(r#"exec node  "$basedir/{target}" "$@""#);
        (end == (true, other.as_str(), true, None)).then_some(PnpmScript { target, node_path })
    }
}

/// A text in which a shell finds nothing to do between double quotes.
fn plain(text: &str) -> Option<&str> {
    (!text.contains(['$', '`', '"', '\\'])).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNPM: &str = r#"#!/bin/sh
basedir=$(dirname "$(echo "$0" | sed -e 's,\\,/,g')")

case `uname` in
    *CYGWIN*|*MINGW*|*MSYS*)
        if command -v cygpath > /dev/null 2>&1; then
            basedir=`cygpath -w "$basedir"`
        fi
    ;;
esac

if [ -z "$NODE_PATH" ]; then
  export NODE_PATH="/a b/node_modules:/c/node_modules"
else
  export NODE_PATH="/a b/node_modules:/c/node_modules:$NODE_PATH"
fi
if [ -x "$basedir/node" ]; then
  exec "$basedir/node"  "$basedir/global/5/codex.js" "$@"
else
  exec node  "$basedir/global/5/codex.js" "$@"
fi
"#;

    fn program(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn node_is_the_one_that_the_first_line_names() {
        let dir = tempfile::tempdir().unwrap();
        let (launcher, node) = (dir.path().join("codex"), dir.path().join("b/node"));
        std::fs::create_dir_all(dir.path().join("a/node")).unwrap();
        program(&node, "");
        let path = format!("{0}/none:{0}/a:{0}/b", dir.path().display());
        let node_of = |text: &str, path: &str| {
            program(&launcher, text);
            Script::of(&launcher, &Env::of(&[("PATH", path)], dir.path(), 0)).map(|script| script.node)
        };
        assert_eq!(node_of("#!/usr/bin/env node\n", &path), Some(node));
        assert_eq!(node_of("#!/opt/x/node\n", &path), Some("/opt/x/node".into()));
        for other in
            ["#!/usr/bin/env node --flag\n", "#!/bin/sh\nexec node x\n", "\x7fELF", "#!/usr/bin/env python\n"]
        {
            assert_eq!(node_of(other, &path), None, "{other}");
        }
        assert_eq!(node_of("#!/usr/bin/env node\n", "/nonexistent"), None);
        assert_eq!(Script::of(Path::new("codex"), &Env::of(&[("PATH", &path)], dir.path(), 0)), None);
    }

    #[test]
    fn pnpms_script_is_understood_and_anything_that_differs_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let launcher = dir.path().join("codex");
        let env = Env::of(&[("PATH", dir.path().to_str().unwrap())], dir.path(), 0);
        let of = |text: &str| {
            program(&launcher, text);
            Script::of(&launcher, &env)
        };
        assert_eq!(of(PNPM), None, "there is no Node");
        program(&dir.path().join("node"), "");
        let script = of(PNPM).unwrap();
        assert_eq!(script.path, dir.path().join("global/5/codex.js"));
        assert_eq!(script.node_path.as_deref(), Some("/a b/node_modules:/c/node_modules"));
        for (from, to) in [
            ("else\n  exec node  ", "else\n  echo hi\n  exec node  "),
            ("\"$basedir/global/5/codex.js\" \"$@\"\nfi", "\"$basedir/global/5/other.js\" \"$@\"\nfi"),
            ("/c/node_modules:$NODE_PATH", "/d/node_modules:$NODE_PATH"),
            ("global/5", "$X/5"),
            ("fi\nif", "fi\necho hi\nif"),
        ] {
            let changed = PNPM.replace(from, to);
            assert_ne!(changed, PNPM, "{to}");
            assert_eq!(of(&changed), None, "{to}");
        }
        assert_eq!(of(&format!("{PNPM}echo hi\n")), None);
    }
}
