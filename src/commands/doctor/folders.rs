//! The folders of accounts: whether they are there, and whether an account can be used in each, since Codex does not
//! start there otherwise.

use codex_pool_core::account::{Account, AccountId};
use codex_pool_core::config::Parallel;
use codex_pool_core::folders::{FolderRules, has_any, short};
use codex_pool_core::launch::candidates;
use codex_pool_core::pick::pick;
use codex_pool_core::store::path_of_key;

use super::Check;
use super::facts::Facts;

const ID: &str = "folders";

pub(super) fn checks(facts: &Facts<'_>) -> Vec<Check> {
    let Some(folder) = facts.existing_folder() else { return Vec::new() };
    let (Ok(pool), Ok(main_home)) = (&folder.pool, &folder.main_home) else { return Vec::new() };
    let accounts = &pool.registry().accounts;
    if !has_any(accounts) {
        return Vec::new();
    }
    let ctx = &main_home.ctx;
    let home = ctx.env.home();
    let mut checks = Vec::new();
    let mut keys: Vec<&String> = accounts.iter().flat_map(|account| &account.folders).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let path = path_of_key(key);
        let text = short(&path, home);
        let owners: Vec<&Account> = accounts.iter().filter(|account| account.folders.contains(key)).collect();
        if !path.is_dir() {
            let who: Vec<&str> = owners.iter().map(|owner| &*owner.label).collect();
            let first = owners.first().map_or("<account>", |owner| owner.shell_ref());
            checks.push(
                Check::warn(ID, format!("{text}, the folder of {}, does not exist", who.join(", "))).advice(
                    format!("`codex-pool set {first} --folder …` names another one, `--no-folders` none"),
                ),
            );
            continue;
        }
        let rules = FolderRules::at(accounts, [path.as_path()], home);
        let has = |id: &AccountId| pool.credentials().has(id);
        let seen =
            candidates(pool, &folder.processes.ledger, folder.live(), &ctx.codex, &rules, has, ctx.env.now);
        let ranking = pick(&seen, ctx.env.now, &ctx.settings);
        if !ranking.iter().any(|ranked| ranked.eligible()) {
            let of_folder = ranking.iter().filter(|ranked| seen[ranked.index].elsewhere.is_none());
            let why: Vec<String> = of_folder
                .map(|ranked| {
                    format!("{}: {}", seen[ranked.index].account.label, ranked.explain(ctx.env.now))
                })
                .collect();
            checks.push(
                Check::fail(
                    ID,
                    format!(
                        "no account of {text} can be used ({}); Codex does not start there",
                        why.join(", ")
                    ),
                )
                .advice("`codex-pool list` says what each needs; `codex-pool set` changes the folders"),
            );
        }
    }
    if accounts.iter().all(|account| !account.folders.is_empty()) {
        checks.push(
            Check::warn(ID, "every account has folders; in all others Codex does not start")
                .advice("nothing, if that is intended; else `codex-pool set <account> --no-folders`"),
        );
    }
    if ctx.settings.parallel == Parallel::Off {
        checks.push(
            Check::warn(
                ID,
                "with parallel = \"off\", Codex does not start in a folder while a session of another account runs",
            )
            .advice("`parallel = \"home\"` in config.toml gives each account a home"),
        );
    }
    if checks.is_empty() {
        checks.push(Check::ok(ID, "every folder of an account has one that can be used"));
    }
    checks
}
