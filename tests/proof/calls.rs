//! System calls: with which errors they may fail, and which of those in strace's log are a program's own.

use std::collections::{BTreeMap, BTreeSet};

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

/// Calls of the program itself, after the loader's: name, and which of them by number. Each thread counts for itself, as
/// strace does. `but`: those that are left out.
pub(crate) fn own(
    log: &str,
    between: &[&str],
    but: impl Fn(&str) -> bool,
) -> BTreeMap<String, BTreeSet<usize>> {
    let calls: Vec<(&str, &str)> = log
        .lines()
        .map(|line| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' '))
        .zip(log.lines().map(|line| line.split(' ').next().unwrap_or_default()))
        .filter_map(|(line, pid)| {
            let name = line.split_once('(')?.0;
            let is_name = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            (is_name && !name.is_empty()).then_some((pid, line))
        })
        .collect();
    let library =
        |line: &str| line.starts_with("openat") && (line.contains(".so.") || line.contains(".so\""));
    let execs = |line: &str| line.starts_with("execve(");
    let end = calls.iter().skip(1).position(|(_, line)| execs(line)).map_or(calls.len(), |at| at + 1);
    let loaded = calls[..end].iter().rposition(|(_, line)| library(line)).unwrap_or(0);
    let begin =
        loaded + calls[loaded..end].iter().position(|(_, line)| line.starts_with("munmap(")).unwrap_or(0) + 1;
    let concerns = |(_, line): &(&str, &str)| between.iter().any(|text| line.contains(text));
    let begin = begin.max(calls.iter().position(concerns).unwrap_or(0));
    let last = calls[..end].iter().rposition(concerns).unwrap_or(end);
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut own: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    let traces_children =
        calls.iter().any(|(pid, _)| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()));
    for (at, (pid, line)) in calls[..end].iter().enumerate() {
        let name = line.split('(').next().unwrap_or_default();
        let count = counts.entry((if traces_children { pid } else { "" }, name)).or_default();
        *count += 1;
        if (begin..=last).contains(&at) && !but(line) {
            own.entry(name.to_owned()).or_default().insert(*count);
        }
    }
    own
}

/// Returns whether a call reads about a process that is none of these, of which a machine has any number.
pub(crate) fn is_of_others(line: &str, ours: &[i32]) -> bool {
    let pids = line.split("/proc/").skip(1).filter_map(|rest| {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        rest[..digits].parse::<i32>().ok()
    });
    let mut pids = pids.peekable();
    pids.peek().is_some() && !pids.any(|pid| ours.contains(&pid))
}
