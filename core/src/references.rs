//! References: the names by which a user means an account. Pure functions.

use crate::account::Account;
use crate::error::{Error, ErrorKind, Result};
use crate::text::is_deceptive;

/// From this many characters on, the beginning of an id is a reference. Shorter ones would hide labels that were
/// mistyped.
const SHORTEST_ID: usize = 4;
/// An account whose name is at least this similar to what was typed is the one that is likely meant (0 to 1).
const SIMILAR: f64 = 0.7;
/// So many labels are listed for a reference that means none.
const LISTED: usize = 8;

/// Returns the account that `reference` means: by id (a former one, too), account id, label or email, in this order;
/// else by the beginning of a label, of an email, or of an id that only one account has, in this order. A beginning of
/// an account id means nothing, since members of one workspace have it in common.
///
/// # Errors
/// No account matches, or several do. Then the error lists them.
pub fn resolve<'a>(accounts: &'a [Account], reference: &str) -> Result<&'a Account> {
    let reference = reference.trim();
    if accounts.is_empty() {
        return Err(Error::of(ErrorKind::NoSuchAccount, "the pool has no accounts yet")
            .hint("add one with `codex-pool add`"));
    }
    if reference.is_empty() {
        return Err(Error::of(ErrorKind::NoSuchAccount, "an empty reference names no account")
            .hint(format!("one of {}", labels(accounts))));
    }
    for field in [ids, workspace, label, email] {
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
    for (field, shortest) in [(label as Field, 1), (email, 1), (ids, SHORTEST_ID)] {
        if reference.chars().count() < shortest {
            continue;
        }
        let matches: Vec<&Account> = accounts.iter().filter(|a| field(a).iter().any(starts)).collect();
        match matches.as_slice() {
            [] => {}
            [one] => return Ok(one),
            several => return Err(ambiguous(reference, several)),
        }
    }
    let hint = match similar(accounts, &lower) {
        Some(meant) => format!("did you mean `{}`? ({})", meant.label, labels(accounts)),
        None => format!("one of {}", labels(accounts)),
    };
    Err(Error::of(ErrorKind::NoSuchAccount, format!("no account matches `{}`", printable(reference)))
        .hint(hint))
}

type Field = fn(&Account) -> Vec<&str>;

fn ids(account: &Account) -> Vec<&str> {
    std::iter::once(account.id.as_str()).chain(account.former_ids.iter().map(String::as_str)).collect()
}

fn workspace(account: &Account) -> Vec<&str> {
    account.account_id.as_deref().into_iter().collect()
}

fn label(account: &Account) -> Vec<&str> {
    vec![account.label.as_str()]
}

fn email(account: &Account) -> Vec<&str> {
    account.email.as_deref().into_iter().collect()
}

/// Returns the account whose label or email is most like what was typed, if it is like it at all.
fn similar<'a>(accounts: &'a [Account], lower: &str) -> Option<&'a Account> {
    let likeness = |account: &Account| {
        let names = label(account).into_iter().chain(email(account));
        names.map(|name| strsim::jaro_winkler(&name.to_lowercase(), lower)).fold(0.0, f64::max)
    };
    let rated = accounts.iter().map(|account| (likeness(account), account));
    let best = rated.max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(likeness, _)| *likeness >= SIMILAR).map(|(_, account)| account)
}

/// Returns the labels, the first of them if there are many.
fn labels(accounts: &[Account]) -> String {
    let mut list: Vec<&str> = accounts.iter().take(LISTED).map(|account| account.label.as_str()).collect();
    if accounts.len() > LISTED {
        list.push("…");
    }
    list.join(", ")
}

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
            access_only: None,
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
        let error = resolve(&accounts, "wor").unwrap_err();
        assert!(
            error.message.contains("work <a@example.com>") && error.message.contains("Work <b@example.com>")
        );
    }

    #[test]
    fn beginnings_of_labels_come_before_emails_and_ids_need_four_letters() {
        let accounts = [
            account("u1", "aaaa-bbbb", "work", "zoe@example.com"),
            account("u2", "cccc-dddd", "zoo", "ann@example.com"),
        ];
        let label = |r: &str| resolve(&accounts, r).map(|a| a.label.as_str()).map_err(|e| e.kind);
        let id = accounts[0].id.as_str();
        assert_eq!(label("z"), Ok("zoo"), "a label before an email");
        assert_eq!(label("zoe"), Ok("work"));
        assert_eq!((label(&id[..4]), label(&id[..3])), (Ok("work"), Err(ErrorKind::NoSuchAccount)));
        assert_eq!((label("old-w"), label("old")), (Ok("work"), Err(ErrorKind::NoSuchAccount)));
        assert_eq!((label("aaaa-bbbb"), label("aaaa-")), (Ok("work"), Err(ErrorKind::NoSuchAccount)));
    }

    #[test]
    fn mistyped_references_are_answered_with_the_likely_one_and_the_choice() {
        let accounts = ["work", "private", "uni"].map(|l| account(l, "w", l, &format!("{l}@example.com")));
        let hint = |r: &str| resolve(&accounts, r).unwrap_err().hint.unwrap();
        assert_eq!(hint("wrok"), "did you mean `work`? (work, private, uni)");
        assert_eq!(hint("worj"), "did you mean `work`? (work, private, uni)");
        assert_eq!(hint("xyz"), "one of work, private, uni");
        let many: Vec<Account> =
            (0..12).map(|n| account(&n.to_string(), "w", &format!("a{n}"), "x@example.com")).collect();
        assert_eq!(
            resolve(&many, "q").unwrap_err().hint.unwrap(),
            "one of a0, a1, a2, a3, a4, a5, a6, a7, …"
        );
    }
}
