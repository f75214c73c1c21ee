//! What macOS says of the start of a process (`sysctl` `KERN_PROCARGS2`): the number of arguments, the path of the
//! program and zeroes, the arguments, the environment, each ended by a zero, and an empty string. Pure.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Arguments and environment of a process.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProcArgs {
    /// The arguments, the program's name as the first.
    pub(super) arguments: Vec<OsString>,
    /// The environment (`NAME=value`). `None`: the system keeps it to itself.
    pub(super) environ: Option<Vec<OsString>>,
}

/// Reads that form. `None`: it is of another form, or cut off before the end of the arguments.
pub(super) fn parse(bytes: &[u8]) -> Option<ProcArgs> {
    let (count, rest) = bytes.split_first_chunk::<4>()?;
    let count = usize::try_from(i32::from_ne_bytes(*count)).ok()?;
    let path_end = rest.iter().position(|byte| *byte == 0)?;
    let rest = &rest[path_end..];
    let start = rest.iter().position(|byte| *byte != 0).unwrap_or(rest.len());
    let mut strings = rest[start..].split_inclusive(|byte| *byte == 0);
    let mut arguments = Vec::new();
    for _ in 0..count {
        arguments.push(text(strings.next()?.strip_suffix(b"\0")?));
    }
    let environ = strings.map_while(|entry| entry.strip_suffix(b"\0").filter(|entry| !entry.is_empty()));
    let environ: Vec<OsString> = environ.map(text).collect();
    Some(ProcArgs { arguments, environ: (!environ.is_empty()).then_some(environ) })
}

fn text(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(count: i32, rest: &[u8]) -> Vec<u8> {
        [&count.to_ne_bytes()[..], rest].concat()
    }

    #[test]
    fn arguments_and_environment_are_told_apart() {
        let parsed =
            parse(&block(3, b"/x/codex\0\0\0\0codex\0exec\0\0HOME=/h\0CODEX_HOME=/c\0\0ptr_munge=\0"));
        let parsed = parsed.unwrap();
        assert_eq!(parsed.arguments, ["codex", "exec", ""]);
        assert_eq!(parsed.environ.unwrap(), ["HOME=/h", "CODEX_HOME=/c"]);
    }

    #[test]
    fn hidden_environment_is_unknown_and_a_cut_block_is_nothing() {
        let hidden = parse(&block(1, b"/x/codex\0codex\0\0\0")).unwrap();
        assert_eq!((hidden.arguments.len(), hidden.environ), (1, None));
        assert_eq!(parse(&block(1, b"/x/codex\0codex\0")).unwrap().environ, None);
        for cut in [&b""[..], b"\x01\0", &block(2, b"/x/codex\0codex\0"), &block(1, b"/x/codex\0cod")] {
            assert_eq!(parse(cut), None, "{cut:?}");
        }
        assert_eq!(parse(&block(-1, b"/x/codex\0codex\0")), None);
    }
}
