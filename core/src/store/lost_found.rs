//! `lost+found/`: documents that were replaced or could not be understood, 0600, kept 30 days. The
//! last net under "nothing is lost".

use std::path::PathBuf;

use crate::account::AccountId;
use crate::auth_doc::{AuthDoc, DocHash};
use crate::error::{Error, Result};
use crate::files::{self, Durability, PoolLock, RenewalLock};
use crate::paths::PoolPaths;

/// How long a document is kept, seconds.
const KEPT: i64 = 30 * 86_400;

/// Why a document is there; part of its file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A newer one took its place.
    Replaced,
    /// As new as the one that was kept: only a refresh can tell which one is good.
    Tie,
    /// It could not be understood.
    Broken,
    /// The answer of a token refresh that could not be put into its place.
    Renewed,
}

impl Why {
    fn as_str(self) -> &'static str {
        match self {
            Why::Replaced => "replaced",
            Why::Tie => "tie",
            Why::Broken => "broken",
            Why::Renewed => "renewed",
        }
    }
}

/// The folder.
#[derive(Debug)]
pub struct LostFound<'a> {
    paths: &'a PoolPaths,
}

impl<'a> LostFound<'a> {
    /// The folder under these paths.
    pub fn new(paths: &'a PoolPaths) -> Self {
        LostFound { paths }
    }

    /// Keeps a copy, durably, and removes what is older than 30 days. The same bytes are kept once.
    pub fn keep(
        &self,
        _lock: &PoolLock,
        bytes: &[u8],
        why: Why,
        id: Option<&AccountId>,
        now: i64,
    ) -> Result<PathBuf> {
        let dir = self.paths.lost_found();
        files::create_private_dir(&dir).map_err(|e| Error::io("create", &dir, &e))?;
        let hash = serde_json::to_value(DocHash::of(bytes)).ok();
        let hash = hash.as_ref().and_then(|h| h.as_str()).map_or("", |h| &h[..12]);
        let whose = id.map_or("unknown", AccountId::as_str);
        let tail = format!("-{whose}-{}-{hash}.json", why.as_str());
        let path = dir.join(format!("{now}{tail}"));
        if let Some((_, there)) =
            self.entries().into_iter().find(|(_, path)| path.to_string_lossy().ends_with(&tail))
        {
            // Its 30 days begin again.
            std::fs::rename(&there, &path).map_err(|e| Error::io("rename", &there, &e))?;
            return Ok(path);
        }
        files::write_whole(&path, bytes, Durability::Durable).map_err(|e| Error::io("write", &path, &e))?;
        for (kept_at, old) in self.entries() {
            if now.saturating_sub(kept_at) > KEPT {
                let _ = files::remove_file(&old);
            }
        }
        Ok(path)
    }

    /// What is kept: since when (Unix seconds) and where.
    pub fn entries(&self) -> Vec<(i64, PathBuf)> {
        let dir = self.paths.lost_found();
        let dir = files::refuse_leading_root_astray(&dir).and_then(|()| std::fs::read_dir(&dir));
        let Ok(dir) = dir else { return Vec::new() };
        let mut found: Vec<_> = dir
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name().into_string().ok()?;
                Some((name.split('-').next()?.parse().ok()?, entry.path()))
            })
            .collect();
        found.sort();
        found
    }

    /// The newest document kept as a tie with the pool's own, for a refresh that found the pool's rejected.
    pub fn tie(&self, id: &AccountId) -> Option<PathBuf> {
        let mark = format!("-{id}-tie-");
        self.entries().into_iter().rev().map(|(_, p)| p).find(|p| p.to_string_lossy().contains(&mark))
    }

    /// Keeps the answer of a token refresh when the pool's lock cannot be had: it is the only copy.
    /// Needs no lock, since the name is the document's own and the holder of the refresh lock is alone.
    pub fn rescue(&self, _lock: &RenewalLock, doc: &AuthDoc, now: i64) -> Result<PathBuf> {
        let dir = self.paths.lost_found();
        files::create_private_dir(&dir).map_err(|e| Error::io("create", &dir, &e))?;
        let path = dir.join(format!("{now}-{}-{}.json", doc.id(), Why::Renewed.as_str()));
        files::write_whole(&path, doc.bytes(), Durability::Durable)
            .map_err(|e| Error::io("write", &path, &e))?;
        Ok(path)
    }

    /// What [`LostFound::rescue`] kept and nobody has put into its place yet.
    pub fn rescued(&self) -> Vec<PathBuf> {
        let tail = format!("-{}.json", Why::Renewed.as_str());
        let mut found = self.entries();
        found.retain(|(_, path)| path.to_string_lossy().ends_with(&tail));
        found.into_iter().map(|(_, path)| path).collect()
    }
}
