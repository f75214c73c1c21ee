//! References: the names by which a user means an account. Pure functions.

use crate::account::Account;
use crate::error::{Error, ErrorKind, Result};
use crate::text::is_deceptive;

/// Returns the account that `reference` means: by id (a former one, too), account id, label or email, in this order,
/// else by a prefix of one of them that only one account has.
///
/// # Errors
/// No account matches, or several do. Then the error lists them.
pub fn resolve<'a>(accounts: &'a [Account], reference: &str) -> Result<&'a Account> {
    let reference = reference.trim();
    if reference.is_empty() {
        return Err(Error::of(ErrorKind::NoSuchAccount, "an empty reference names no account").hint(SEE_LIST));
    }
    for field in FIELDS {
        let exact: Vec<&Account> =
            accounts.iter().filter(|a| field(a).iter().any(|v| v.eq_ignore_ascii_case(reference))).collect();
        // Labels may differ in case alone. Then the exact spelling decides.
        let spelled: Vec<&Account> =
            exact.iter().copied().filter(|a| field(a).contains(&reference)).collect();
        match (spelled.as_slice(), exact.as_slice()) {
            ([one], _) | ([], [one]) => return Ok(one),
            ([], []) => {}
            ([], several) | (several, _) => return Err(ambiguous(reference, several)),
        }
    }
    let lower = reference.to_lowercase();
    let starts = |v: &&str| v.to_lowercase().starts_with(&lower);
    let matches: Vec<&Account> =
        accounts.iter().filter(|a| FIELDS.iter().any(|field| field(a).iter().any(starts))).collect();
    match matches.as_slice() {
        [one] => Ok(one),
        [] if accounts.is_empty() => Err(Error::of(ErrorKind::NoSuchAccount, "the pool has no accounts yet")
            .hint("add one with `codex-pool add`")),
        [] => {
            Err(Error::of(ErrorKind::NoSuchAccount, format!("no account matches `{}`", printable(reference)))
                .hint(SEE_LIST))
        }
        several => Err(ambiguous(reference, several)),
    }
}

const SEE_LIST: &str = "see `codex-pool list`";

type Field = fn(&Account) -> Vec<&str>;

/// The names of an account, in the order in which they count.
const FIELDS: [Field; 4] = [
    |a| std::iter::once(a.id.as_str()).chain(a.former_ids.iter().map(String::as_str)).collect(),
    |a| a.account_id.as_deref().into_iter().collect(),
    |a| vec![a.label.as_str()],
    |a| a.email.as_deref().into_iter().collect(),
];

fn ambiguous(reference: &str, matches: &[&Account]) -> Error {
    let list: Vec<String> = matches.iter().map(|a| format!("{} ({})", a.display(), a.id)).collect();
    Error::of(
        ErrorKind::NoSuchAccount,
        format!("`{}` matches {} accounts: {}", printable(reference), list.len(), list.join(", ")),
    )
    .hint("use a longer reference or the id in parentheses")
}

/// Returns what was typed without deceptive characters.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !is_deceptive(*c)).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{AccountId, AccountKind};

    fn account(user: &str, workspace: &str, label: &str, email: &str) -> Account {
        Account {
            email: Some(email.into()),
            user_id: Some(user.into()),
            account_id: Some(workspace.into()),
            former_ids: vec![format!("old-{label}")],
            refresh_tokens: None,
            ..Account::new(AccountId::of_chatgpt(user, workspace), label, AccountKind::Chatgpt, 0)
        }
    }

    #[test]
    fn the_order_of_names_decides_and_ambiguity_lists() {
        let accounts = [
            account("u1", "team-1", "work", "a@example.com"),
            account("u2", "team-1", "Work", "b@example.com"),
            account("u3", "w3", "a@example.com", "c@example.com"),
            account("u4", "w4", "büro", "d@example.com"),
        ];
        let label = |r: &str| resolve(&accounts, r).map(|a| a.label.clone()).map_err(|e| e.kind);
        assert_eq!(label(accounts[1].id.as_str()), Ok("Work".into()));
        assert_eq!(label("old-work"), Ok("work".into()), "a former id, spelled exactly");
        assert_eq!(label("team-1"), Err(ErrorKind::NoSuchAccount), "two members of one workspace");
        assert_eq!(label("work"), Ok("work".into()), "the exact spelling wins");
        assert_eq!(label("WORK"), Err(ErrorKind::NoSuchAccount));
        assert_eq!(label("a@example.com"), Ok("a@example.com".into()), "a label comes before an email");
        assert_eq!(label("bü"), Ok("büro".into()));
        assert_eq!(label("c@"), Ok("a@example.com".into()));
        assert_eq!(label(""), Err(ErrorKind::NoSuchAccount));
        let error = resolve(&accounts, "team").unwrap_err();
        assert!(
            error.message.contains("work <a@example.com>") && error.message.contains("Work <b@example.com>")
        );
    }
}
