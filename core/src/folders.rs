//! Which accounts may be used in a folder. An account with folders is used only in them, and in such a folder only its
//! accounts are used; the deepest folder decides. Folders are compared by device and inode, so that links and mounts do
//! not matter. Reads only what `stat` says. The rules are in the registry: nothing that a project contains can set them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::account::{Account, AccountId};
use crate::store::path_of_key;

/// The rules that hold where a launch works.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderRules {
    /// The accounts that may not be used, each with the reason.
    against: Vec<(AccountId, String)>,
    /// The folder that decides, as text, if it has accounts. Only they may be used then.
    folder: Option<String>,
}

/// A folder as the file system knows it. One that cannot be reached is known by its path.
#[derive(PartialEq, Eq)]
enum Identity {
    Inode(u64, u64),
    Path(PathBuf),
}

impl Identity {
    fn of(folder: &Path) -> Identity {
        match folder.metadata() {
            Ok(meta) => Identity::Inode(meta.dev(), meta.ino()),
            Err(_) => Identity::Path(folder.to_owned()),
        }
    }
}

/// A folder of an account.
struct Rule<'a> {
    account: &'a Account,
    folder: PathBuf,
    identity: Identity,
}

impl FolderRules {
    /// Returns the rules for work in all of these folders, which are absolute. None: nobody can tell where that is, so it
    /// is outside of all. `home`: the user's, for texts.
    pub fn at<'p>(
        accounts: &[Account],
        folders: impl IntoIterator<Item = &'p Path>,
        home: Option<&Path>,
    ) -> FolderRules {
        let mut rules = FolderRules::default();
        if !has_any(accounts) {
            return rules;
        }
        let known = known(accounts);
        let mut folders = folders.into_iter().peekable();
        if folders.peek().is_none() {
            rules.add(accounts, &known, &[], home);
        }
        for folder in folders {
            let above: Vec<Identity> = folder.ancestors().map(Identity::of).collect();
            rules.add(accounts, &known, &above, home);
        }
        rules
    }

    /// Adds that work may happen in this folder, too: if it has accounts, only they may be used. What an account's own
    /// folders say does not count there.
    pub fn and_among_owners_of(
        mut self,
        accounts: &[Account],
        folder: &Path,
        home: Option<&Path>,
    ) -> FolderRules {
        let there = FolderRules::at(accounts, [folder], home);
        if there.folder.is_some() {
            let new = there.against.into_iter().filter(|(id, _)| self.objection(id).is_none());
            let new: Vec<_> = new.collect();
            self.against.extend(new);
            self.folder = self.folder.or(there.folder);
        }
        self
    }

    /// Adds the rules of another folder. `above`: the folder and all above it.
    fn add(&mut self, accounts: &[Account], known: &[Rule<'_>], above: &[Identity], home: Option<&Path>) {
        let decides = above.iter().find_map(|folder| known.iter().find(|rule| rule.identity == *folder));
        let owns = |account: &Account| {
            let decides = decides.map(|rule| &rule.identity);
            known.iter().any(|rule| rule.account.id == account.id && Some(&rule.identity) == decides)
        };
        for account in accounts.iter().filter(|account| !owns(account)) {
            let mut own = known.iter().filter(|rule| rule.account.id == account.id).peekable();
            let outside = own.peek().is_some() && !own.clone().any(|rule| above.contains(&rule.identity));
            let why = match decides {
                _ if outside => {
                    let own: Vec<String> = own.map(|rule| short(&rule.folder, home)).collect();
                    format!("only in {}", own.join(", "))
                }
                Some(rule) => {
                    let owners = accounts.iter().filter(|account| owns(account));
                    let owners: Vec<&str> = owners.map(|account| &*account.label).collect();
                    format!("{} is for {}", short(&rule.folder, home), owners.join(", "))
                }
                None => continue,
            };
            if self.objection(&account.id).is_none() {
                self.against.push((account.id.clone(), why));
            }
        }
        self.folder = self.folder.take().or_else(|| Some(short(&decides?.folder, home)));
    }

    /// Returns why an account may not be used here.
    pub fn objection(&self, id: &AccountId) -> Option<&str> {
        self.against.iter().find(|(account, _)| account == id).map(|(_, why)| &**why)
    }

    /// Returns the folder that has accounts, as text. Only they may be used here, and no login that is not in the pool.
    pub fn folder(&self) -> Option<&str> {
        self.folder.as_deref()
    }

    /// Returns why what a Codex home holds may not be used here. `None` for the account: a login that is not in the
    /// pool, or none at all.
    pub fn against(&self, account: Option<&Account>) -> Option<String> {
        match (account, &self.folder) {
            (Some(account), _) => self
                .objection(&account.id)
                .map(|why| format!("{} may not be used here ({why})", account.label)),
            (None, Some(folder)) => Some(format!("only accounts of {folder} may be used here")),
            (None, None) => None,
        }
    }
}

/// Returns whether an account has a folder.
pub fn has_any(accounts: &[Account]) -> bool {
    accounts.iter().any(|account| !account.folders.is_empty())
}

fn known(accounts: &[Account]) -> Vec<Rule<'_>> {
    let mut rules = Vec::new();
    for account in accounts {
        for folder in account.folders.iter().map(|key| path_of_key(key)) {
            rules.push(Rule { account, identity: Identity::of(&folder), folder });
        }
    }
    rules
}

/// Returns a folder for people: `~/work` instead of the whole path.
pub fn short(folder: &Path, home: Option<&Path>) -> String {
    match home.and_then(|home| folder.strip_prefix(home).ok()) {
        Some(rest) if rest.as_os_str().is_empty() => "~".to_owned(),
        Some(rest) => format!("~/{}", rest.display()),
        None => folder.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::AccountKind;
    use crate::store::path_key;

    fn account(label: &str, folders: &[&Path]) -> Account {
        let id = AccountId::of_chatgpt(label, "w");
        let folders = folders.iter().map(|folder| path_key(folder)).collect();
        Account { folders, ..Account::new(id, label, AccountKind::Chatgpt, 0) }
    }

    /// Returns, for each account, why it may not be used in these folders.
    fn against(accounts: &[Account], folders: &[&Path], home: &Path) -> Vec<Option<String>> {
        let rules = FolderRules::at(accounts, folders.iter().copied(), Some(home));
        accounts.iter().map(|account| rules.objection(&account.id).map(str::to_owned)).collect()
    }

    fn no(why: &str) -> Option<String> {
        Some(why.to_owned())
    }

    #[test]
    fn deepest_folder_decides_and_has_only_its_accounts() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        let (acme, deep, other) = (home.join("acme"), home.join("acme/lab/src"), home.join("other"));
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::create_dir(&other).unwrap();
        let lab = home.join("acme/lab");
        let all = [account("work", &[&acme]), account("lab", &[&lab]), account("private", &[])];
        let inside = "~/acme is for work";
        assert_eq!(against(&all, &[&acme], home), [None, no("only in ~/acme/lab"), no(inside)]);
        let deepest = "~/acme/lab is for lab";
        assert_eq!(against(&all, &[&deep], home), [no(deepest), None, no(deepest)]);
        let outside = [no("only in ~/acme"), no("only in ~/acme/lab"), None];
        assert_eq!(against(&all, &[&other], home), outside);
        assert_eq!(against(&all, &[], home), outside, "a folder that is not known");
        let both = [no(deepest), no("only in ~/acme/lab"), no(deepest)];
        assert_eq!(against(&all, &[&deep, &acme], home), both, "each folder counts");
        assert_eq!(against(&all[2..], &[&acme], home), [None]);
    }

    #[test]
    fn folder_is_known_through_links_and_while_it_is_gone() {
        use std::os::unix::ffi::OsStrExt;
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        let odd = home.join(std::ffi::OsStr::from_bytes(b"b\xff"));
        let (real, link) = (home.join("real"), home.join("link"));
        std::fs::create_dir_all(odd.join("in")).unwrap();
        std::fs::create_dir_all(real.join("in")).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let all = [account("odd", &[&odd]), account("linked", &[&link]), account("private", &[])];
        assert_eq!(against(&all, &[&odd.join("in")], home)[0], None);
        for inside in [real.join("in"), link.join("in"), real.join("in/../in")] {
            assert_eq!(against(&all, &[&inside], home)[1], None, "{}", inside.display());
        }
        let gone = home.join("gone");
        let all = [account("gone", &[&gone]), account("private", &[])];
        assert_eq!(against(&all, &[&gone.join("in")], home), [None, no("~/gone is for gone")]);
        assert_eq!(against(&all, &[home], home), [no("only in ~/gone"), None]);
    }

    #[test]
    fn folder_of_others_counts_where_work_happens_besides() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        let (acme, other) = (home.join("acme"), home.join("other"));
        std::fs::create_dir(&acme).and_then(|()| std::fs::create_dir(&other)).unwrap();
        let all = [account("work", &[&acme]), account("private", &[])];
        let also = |first: &Path, also: &Path| {
            let rules =
                FolderRules::at(&all, [first], Some(home)).and_among_owners_of(&all, also, Some(home));
            all.iter().map(|account| rules.objection(&account.id).is_none()).collect::<Vec<_>>()
        };
        assert_eq!(also(&acme, &other), [true, false], "what belongs to acme may happen elsewhere");
        assert_eq!(also(&other, &acme), [false, false], "but nothing else in acme");
        assert_eq!(also(&other, home), [false, true]);
    }

    #[test]
    fn login_that_is_not_in_the_pool_belongs_into_no_folder_with_accounts() {
        let home = tempfile::tempdir().unwrap();
        let all = [account("work", &[home.path()])];
        let here = FolderRules::at(&all, [home.path()], None);
        assert!(here.against(None).is_some() && here.against(Some(&all[0])).is_none());
        let elsewhere = FolderRules::at(&all, [Path::new("/")], None);
        assert!(elsewhere.against(None).is_none() && elsewhere.against(Some(&all[0])).is_some());
    }
}
