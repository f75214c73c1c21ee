//! The options and sub-commands that Codex knows, and what they mean here.

use super::Command;

/// What an option means here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Opt {
    Flag,
    Help,
    Last,
    NoDaemon,
    IgnoreUserConfig,
    /// Takes a value that is of no interest
    Value,
    Image,
    Config,
    Profile,
    Model,
    Cd,
    AddDir,
    Sandbox,
    Remote,
    Thread,
    Json,
    CannotResume,
    /// Says which sessions `--last` looks at
    All,
}

/// Returns what a long option means.
pub(super) fn long(name: &[u8]) -> Opt {
    match name {
        b"help" | b"version" => Opt::Help,
        b"last" => Opt::Last,
        b"no-daemon" => Opt::NoDaemon,
        b"ignore-user-config" => Opt::IgnoreUserConfig,
        b"image" => Opt::Image,
        b"config" => Opt::Config,
        b"profile" => Opt::Profile,
        b"model" => Opt::Model,
        b"cd" => Opt::Cd,
        b"add-dir" => Opt::AddDir,
        b"sandbox" => Opt::Sandbox,
        b"remote" => Opt::Remote,
        b"thread" => Opt::Thread,
        b"json" | b"experimental-json" => Opt::Json,
        b"ephemeral" | b"worktree" | b"oss" => Opt::CannotResume,
        b"all" => Opt::All,
        // The UI and exec
        b"enable" | b"disable" | b"remote-auth-token-env" | b"local-provider"
        | b"ask-for-approval" | b"color" | b"cyber-access-program" | b"output-last-message"
        | b"output-schema" | b"thread-source"
        // review, queue
        | b"base" | b"commit" | b"title" | b"message"
        // login (`--api-key` takes a value only if one follows, as every option is read here)
        | b"api-key" | b"experimental_client-id" | b"experimental_issuer"
        // app-server
        | b"cloud-skills-snapshot" | b"code-mode-host" | b"listen" | b"startup-client-info" | b"ws-audience"
        | b"ws-auth" | b"ws-issuer" | b"ws-max-clock-skew-seconds" | b"ws-shared-secret-file"
        | b"ws-token-file" | b"ws-token-sha256"
        // cloud
        | b"attempt" | b"attempts" | b"branch" | b"env" | b"cursor" | b"limit" => Opt::Value,
        _ => Opt::Flag,
    }
}

/// Returns what the letter of a short option means.
pub(super) fn short(letter: u8) -> Opt {
    match letter {
        b'h' | b'V' => Opt::Help,
        b'i' => Opt::Image,
        b'c' => Opt::Config,
        b'p' => Opt::Profile,
        b'C' => Opt::Cd,
        b's' => Opt::Sandbox,
        b'm' => Opt::Model,
        b'a' | b'o' => Opt::Value,
        _ => Opt::Flag,
    }
}

/// Returns the sub-command `word` of `command`.
pub(super) fn sub_command(command: Command, word: &[u8]) -> Option<Command> {
    use Command as C;
    Some(match (command, word) {
        (C::Interactive, word) => match word {
            b"agents" => C::Agents,
            b"exec" | b"e" => C::Exec,
            b"review" => C::Review,
            b"login" => C::Login,
            b"logout" => C::Logout,
            b"app-server" => C::AppServer,
            b"mcp-server" => C::McpServer,
            b"remote-control" => C::RemoteControl,
            b"apply" | b"a" => C::Apply,
            b"resume" => C::Resume,
            b"fork" => C::Fork,
            b"queue" => C::Queue,
            b"cloud" | b"cloud-tasks" => C::Cloud,
            b"update" => C::Update,
            b"help" | b"completion" | b"mcp" | b"plugin" | b"features" | b"sandbox" | b"debug"
            | b"doctor" | b"archive" | b"delete" | b"unarchive" | b"exec-server" => C::Local,
            _ if word.starts_with(b"migrate-") => C::Local,
            _ => return None,
        },
        (C::Exec, b"resume") => C::ExecResume,
        (C::Exec, b"fork") => C::ExecFork,
        (C::Exec, b"review") => C::ExecReview,
        (C::Login, b"status")
        | (C::AppServer, b"daemon" | b"proxy")
        | (C::RemoteControl, b"stop")
        | (C::Exec | C::Login | C::AppServer | C::RemoteControl | C::Cloud, b"help") => C::Local,
        (C::AppServer, word) if word.starts_with(b"generate-") => C::Local,
        _ => return None,
    })
}
