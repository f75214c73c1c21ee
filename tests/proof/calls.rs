//! System calls: with which errors they may fail, which of those in strace's log are a program's own, and which of them is
//! the same call in two runs.

use std::collections::BTreeMap;
use std::path::Path;

/// Returns the errors with which a call may fail: none for calls that cannot fail, and none for memory, without which
/// no program goes on.
pub(crate) fn errors_of(call: &str) -> &'static [&'static str] {
    match call {
        "execve" | "exit" | "exit_group" | "brk" | "mmap" | "munmap" | "mprotect" | "mremap" | "madvise"
        | "getpid" | "gettid" | "getppid" | "getuid" | "geteuid" | "getgid" | "getegid"
        | "set_tid_address" | "rt_sigprocmask" | "set_robust_list" | "rseq" | "arch_prctl"
        | "sched_getaffinity" | "sched_yield" | "sigaltstack" | "rt_sigaction" | "rt_sigreturn"
        | "restart_syscall" | "futex" | "umask" | "clock_gettime" | "gettimeofday" | "uname" => &[],
        "open" | "openat" => &["EACCES", "EMFILE", "EIO", "ENOSPC", "EROFS", "EINTR"],
        "write" | "pwrite64" | "writev" => &["ENOSPC", "EIO", "EINTR"],
        "read" | "pread64" | "readv" | "flock" | "recvfrom" | "recvmsg" | "sendto" | "sendmsg" => {
            &["EIO", "EINTR"]
        }
        "fsync" | "fdatasync" | "ftruncate" => &["EIO", "ENOSPC"],
        "rename" | "renameat" | "renameat2" | "link" | "linkat" | "symlink" | "symlinkat" | "mkdir"
        | "mkdirat" | "unlink" | "unlinkat" | "rmdir" => &["EACCES", "EROFS", "ENOSPC", "EIO"],
        "chmod" | "fchmod" | "fchmodat" | "chown" | "fchown" | "fchownat" | "utimensat" => {
            &["EACCES", "EROFS", "EIO"]
        }
        "stat" | "lstat" | "fstat" | "statx" | "newfstatat" | "readlink" | "readlinkat" | "access"
        | "faccessat" | "faccessat2" | "getcwd" | "lseek" | "getdents64" | "statfs" | "fstatfs" => {
            &["EACCES", "EIO"]
        }
        "clone" | "clone3" | "fork" | "vfork" => &["EAGAIN"],
        "wait4" | "waitid" | "poll" | "ppoll" | "epoll_wait" | "nanosleep" | "clock_nanosleep"
        | "getrandom" => &["EINTR"],
        "socket" | "socketpair" | "pipe" | "pipe2" | "dup" | "dup2" | "dup3" | "eventfd2"
        | "epoll_create1" => &["EMFILE"],
        "connect" => &["EACCES", "EINTR"],
        "close" => &["EIO"],
        _ => &["EIO"],
    }
}

/// A call of a program, by a name that it has in every run and in every world: what is called, on which file, and the
/// how-manieth such call that is. On one without a file, the how-manieth of its kind.
///
/// Two kinds of calls are one each, however often they are made: what asks one file below `/proc` about processes that are
/// none of the world's, and what looks at the programs and homes of those. A machine has any number of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Site {
    pub(crate) call: String,
    pub(crate) file: String,
    pub(crate) nth: usize,
}

/// How strace finds a call of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// A file, and the how-manieth call of its kind that concerns that file.
    pub(crate) on_file: Option<(String, usize)>,
    /// The how-manieth of its kind. Each thread counts for itself.
    pub(crate) number: usize,
}

impl Address {
    pub(crate) fn file(&self) -> Option<&str> {
        self.on_file.as_ref().map(|(file, _)| file.as_str())
    }
}

/// Where a program runs: what differs between two worlds, and between two runs in one.
pub(crate) struct Around<'a> {
    pub(crate) root: &'a Path,
    /// What else is named differently in each world, and what stands for it.
    pub(crate) names: Vec<(String, String)>,
    /// The processes of the world.
    pub(crate) ours: Vec<i32>,
}

impl Around<'_> {
    /// Returns the name of a file that is the same in every run and world.
    fn name(&self, path: &str) -> String {
        let root = self.root.to_string_lossy();
        if let Some(of) = path.strip_prefix("/proc/") {
            let (pid, file) = of.split_once('/').unwrap_or((of, ""));
            let whose = match pid.parse::<i32>() {
                Ok(pid) if self.ours.contains(&pid) => "ours",
                Ok(_) => OTHERS,
                Err(_) => pid,
            };
            return format!("/proc/{whose}/{}", without_numbers(file));
        }
        let mut name = path.replace(&*root, "ROOT");
        for (from, to) in &self.names {
            name = name.replace(from, to);
        }
        // Temporary files, sockets and pipes.
        let is_numbered = name.starts_with("ROOT") || name.starts_with("/tmp/") || !name.starts_with('/');
        if is_numbered { without_numbers(&name) } else { name }
    }
}

/// Stands for all processes that are none of the world's.
const OTHERS: &str = "others";

/// Returns a text with a `#` for each number in it.
fn without_numbers(text: &str) -> String {
    let mut short = String::new();
    for c in text.chars() {
        match c.is_ascii_digit() {
            true if short.ends_with('#') => {}
            true => short.push('#'),
            false => short.push(c),
        }
    }
    short
}

/// Returns every call in a log of strace (with `-y`), in order.
pub(crate) fn sites<'a>(log: &'a str, around: &Around<'_>) -> Vec<(Site, Address, &'a str)> {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut count = |of: &str, what: &str| {
        let count = counts.entry((of.to_owned(), what.to_owned())).or_default();
        *count += 1;
        *count
    };
    let mut found = Vec::new();
    for (thread, line) in calls(log) {
        let call = line.split('(').next().unwrap_or_default();
        let files = files(call, line);
        let all = count(thread, call);
        let named: Vec<(usize, usize)> = files
            .iter()
            .map(|file| {
                (count(call, &around.name(file)), count(call, &format!("address of {thread}: {file}")))
            })
            .collect();
        let outside = |file: &str| file.starts_with('/') && !Path::new(file).starts_with(around.root);
        let program_of_other = |file: &str| {
            line.contains(&format!("<{file}>"))
                && outside(file)
                && !file.contains(".so.")
                && !["/proc", "/dev", "/etc", "/tmp", "/sys"].iter().any(|dir| file.starts_with(dir))
        };
        // The homes that they name. Tests of other trees run, too.
        let in_other_world = |file: &str| outside(file) && file.contains("/sandbox/");
        let (file, nth, on_file) = match files.first().zip(named.first()) {
            Some((file, _)) if program_of_other(file) => (format!("/proc/{OTHERS}/exe"), 1, None),
            Some((file, _)) if in_other_world(file) => (format!("/proc/{OTHERS}/home"), 1, None),
            Some((file, (nth, nth_here))) => {
                let name = around.name(file);
                let is_of_others = name.starts_with(&format!("/proc/{OTHERS}"));
                let on_file =
                    (file.starts_with('/') && !is_of_others).then(|| ((*file).to_owned(), *nth_here));
                (name, if is_of_others { 1 } else { *nth }, on_file)
            }
            None => (String::new(), count(call, ""), None),
        };
        let address = Address { on_file, number: all };
        found.push((Site { call: call.to_owned(), file, nth }, address, line));
    }
    found
}

/// Returns the files that a call concerns, as strace's `-P` finds them: but for the current folder.
fn files<'a>(call: &str, line: &'a str) -> Vec<&'a str> {
    // What these give is not there when they fail.
    if matches!(call, "pipe" | "pipe2" | "socketpair") {
        return Vec::new();
    }
    let arguments = line.rsplit_once(" = ").map_or(line, |(call, _)| call);
    let here = |at: usize| arguments[..at].ends_with("AT_FDCWD");
    let open = arguments
        .match_indices('<')
        .filter(|(at, _)| !here(*at) && arguments[..*at].ends_with(|c: char| c.is_ascii_digit()));
    let mut files: Vec<&str> =
        open.filter_map(|(at, _)| Some(arguments[at + 1..].split_once('>')?.0)).collect();
    let takes = match call {
        "readlink" | "open" | "openat" | "stat" | "lstat" | "statx" | "newfstatat" | "access"
        | "faccessat" | "faccessat2" | "mkdir" | "mkdirat" | "rmdir" | "unlink" | "unlinkat" | "chmod"
        | "fchmodat" | "chown" | "lchown" | "fchownat" | "utimensat" | "statfs" | "readlinkat"
        | "truncate" => 1,
        "rename" | "renameat" | "renameat2" | "link" | "linkat" | "symlink" | "symlinkat" => 2,
        _ => 0,
    };
    let quoted = arguments.split('"').skip(1).step_by(2).take(takes);
    files.extend(quoted.filter(|path| path.starts_with('/')));
    files
}

/// Returns the calls in a log, each with its thread, which is empty where only one is followed.
fn calls(log: &str) -> Vec<(&str, &str)> {
    let digits = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    log.lines()
        .map(|line| match line.split_once(' ') {
            Some((thread, rest)) if digits(thread) => (thread, rest.trim_start()),
            _ => ("", line),
        })
        .filter(|(_, line)| {
            let name = line.split_once('(').map_or("", |(name, _)| name);
            let of_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            !name.is_empty() && name.bytes().all(of_name)
        })
        .collect()
}

/// Returns which of these calls are the program's own: after the loader's, up to the next `execve`, and between the first
/// and the last that mention one of `between`, if there are such.
pub(crate) fn own(calls: &[(Site, Address, &str)], between: &[&str]) -> std::ops::RangeInclusive<usize> {
    let line = |at: usize| calls[at].2;
    let library =
        |line: &str| line.starts_with("openat") && (line.contains(".so.") || line.contains(".so\""));
    let end = (1..calls.len()).find(|at| line(*at).starts_with("execve(")).unwrap_or(calls.len());
    let loaded = (0..end).rev().find(|at| library(line(*at))).unwrap_or(0);
    let begin = loaded + (loaded..end).position(|at| line(at).starts_with("munmap(")).unwrap_or(0) + 1;
    let concerns = |at: &usize| between.iter().any(|text| line(*at).contains(text));
    let begin = begin.max((0..calls.len()).find(concerns).unwrap_or(0));
    let last = (0..end).rev().find(concerns).unwrap_or(end.saturating_sub(1));
    begin..=last
}
