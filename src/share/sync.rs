//! Taking in what other machines have written.

use codex_pool_core::Result;
use codex_pool_core::store::Adoption;
use codex_pool_share::pull::Pulled;

use super::document;
use crate::context::adopt::adopt;
use crate::context::{Notice, OpenPool};

/// Adopts the logins that are newer than those of this machine. The caller commits. Returns the labels of those that are
/// new here.
///
/// # Errors
/// A login could not be made durable.
pub(crate) fn take_in(open: &mut OpenPool, pulled: &Pulled) -> Result<Vec<String>> {
    let mut new = Vec::new();
    for login in &pulled.logins {
        let doc = match document(login) {
            Ok(doc) => doc,
            Err(error) => {
                open.tell(&Notice::Warning(error.to_string()));
                continue;
            }
        };
        if adopt(open, &doc, Some(&login.label))? == Adoption::New {
            new.push(open.label(doc.id()));
        }
    }
    Ok(new)
}
