//! `lost+found/`: documents that were replaced or not understood, mode 0600, kept for 30 days.

use std::path::PathBuf;

use crate::account::AccountId;
use crate::auth_doc::{AuthDoc, DocHash};
use crate::error::{Error, Result};
use crate::files::{self, Durability, PoolLock, RenewalLock};
use crate::paths::PoolPaths;

/// How long a document is kept, seconds.
const KEPT: i64 = 30 * 86_400;

/// Why a document was kept. It is part of the file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A newer one has its place.
    Replaced,
    /// It is as new as the one that has its place. Only a renewal can tell which one is good.
    Tie,
    /// It was not understood.
    Broken,
    /// It is the answer of a renewal that could not be stored.
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
    /// Returns the folder of this pool.
    pub fn new(paths: &'a PoolPaths) -> Self {
        LostFound { paths }
    }

    /// Keeps a copy, durably, and removes documents after 30 days. The same bytes are kept once. Returns the file.
    ///
    /// # Errors
    /// The copy cannot be written.
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

    /// Returns the files, each with the time it was kept, Unix seconds, the oldest first.
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

    /// Returns the newest document of an account that is as new as the pool's, for a renewal whose token was rejected.
    pub fn tie(&self, id: &AccountId) -> Option<PathBuf> {
        let mark = format!("-{id}-tie-");
        self.entries().into_iter().rev().map(|(_, p)| p).find(|p| p.to_string_lossy().contains(&mark))
    }

    /// Keeps the answer of a renewal that could not be stored. It needs no pool lock, since the name contains the
    /// account and one process renews at a time. Returns the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn rescue(&self, _lock: &RenewalLock, doc: &AuthDoc, now: i64) -> Result<PathBuf> {
        let dir = self.paths.lost_found();
        files::create_private_dir(&dir).map_err(|e| Error::io("create", &dir, &e))?;
        let path = dir.join(format!("{now}-{}-{}.json", doc.id(), Why::Renewed.as_str()));
        files::write_whole(&path, doc.bytes(), Durability::Durable)
            .map_err(|e| Error::io("write", &path, &e))?;
        Ok(path)
    }

    /// Returns the files of [`LostFound::rescue`] that were not stored since.
    pub fn rescued(&self) -> Vec<PathBuf> {
        let tail = format!("-{}.json", Why::Renewed.as_str());
        let mut found = self.entries();
        found.retain(|(_, path)| path.to_string_lossy().ends_with(&tail));
        found.into_iter().map(|(_, path)| path).collect()
    }
}
