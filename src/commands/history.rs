//! `history`: shows what the accounts had left over the last days.

use codex_pool_core::pool::Pool;
use codex_pool_core::time::DAY;
use codex_pool_core::{Error, Result, env, files, references};

use crate::cli::HistoryArgs;
use crate::context::Context;
use crate::past::Past;
use crate::ui;

pub(crate) fn run(ctx: &Context, args: &HistoryArgs) -> Result<()> {
    let pool = Pool::peek(&ctx.paths)?;
    let now = env::clock();
    let mut past = Past::read(&ctx.paths, &pool, &ctx.settings, args.days, now);
    if !args.accounts.is_empty() {
        let wanted = args.accounts.iter().map(|name| references::resolve(&pool.registry().accounts, name));
        let wanted =
            wanted.map(|account| account.map(|account| account.id.clone())).collect::<Result<Vec<_>>>()?;
        past.accounts.retain(|past| wanted.contains(&past.account.id));
    }
    let span = (now - args.days * DAY, now);
    if let Some(file) = &args.svg {
        let picture = ui::history::picture(&past, span);
        if file.as_os_str() == "-" {
            return ui::raw_whole(picture.as_bytes());
        }
        let path = ctx.env.absolute(file).unwrap_or_else(|| file.clone());
        files::write_whole(&path, picture.as_bytes(), files::Durability::Fast).map_err(|e| {
            Error::io("write", &path, &e).hint("name a file in a folder that you may write to")
        })?;
        ui::note(&format!("wrote {}; it names accounts by their labels", path.display()));
    }
    if args.json {
        ui::json(&past.json(span.0, span.1));
    } else if args.csv {
        ui::history::csv(&past, span.0);
    } else if args.svg.is_none() {
        ui::history::charts(&past, span, ui::coloured());
    }
    Ok(())
}
