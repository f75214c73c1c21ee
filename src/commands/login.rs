//! The login that `add` and `reauth` share: from their arguments.

use std::io::IsTerminal;

use codex_pool_core::auth_doc::Secret;
use codex_pool_core::{Error, Result, files};

use crate::cli::LoginArgs;
use crate::context::Context;
use crate::context::login::{Login, NewLogin};
use crate::ui;

/// No API key is longer, bytes.
const MAX_API_KEY: u64 = 64 << 10;

/// Lets the user log in. `quiet`: stdout is for the answer of this command alone, so what Codex prints goes to stderr.
///
/// # Errors
/// As [`Login::run`].
pub(super) fn log_in(ctx: &Context, args: &LoginArgs, quiet: bool) -> Result<NewLogin> {
    let read_api_key: Option<fn() -> Result<Secret>> =
        if args.with_api_key { Some(read_api_key) } else { None };
    Login { device_auth: args.device_auth, read_api_key, args: &args.login_args, quiet }.run(ctx)
}

/// Reads the API key from standard input; asks a person for it.
fn read_api_key() -> Result<Secret> {
    if std::io::stdin().is_terminal() {
        return ui::secret("API key:");
    }
    let bytes = files::read_stream(std::io::stdin().lock(), MAX_API_KEY).map_err(|e| {
        Error::new(format!("cannot read the API key from standard input: {e}"))
            .hint("`printenv OPENAI_API_KEY | codex-pool add --with-api-key`")
    })?;
    // What is not text is not a key either.
    Ok(Secret::new(String::from_utf8(bytes).unwrap_or_default()))
}
