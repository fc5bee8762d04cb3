//! Who may use a file.
//!
//! Between OS processes that is who holds the lock on `<path>.lock`. The lock file stays when the
//! lock is released: were it removed, then two could hold locks on two files of that name. Should
//! somebody remove it all the same, the lock on the file itself keeps others away.
//!
//! Within this one, [`SLOTS`] knows the holder, so that its successor can take the lock over
//! without ever releasing it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use telemetry_common::lock::lock;

use super::{UsageFileError, cannot, open_if_there, with_suffix};

/// All files that are claimed in this process, or about to be, by their resolved paths.
static SLOTS: Mutex<BTreeMap<PathBuf, Arc<Slot>>> = Mutex::new(BTreeMap::new());

/// The right to use a file, until it is dropped or a successor takes it over.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    slot: Arc<Slot>,
    number: u64,
}

#[derive(Debug, Default)]
struct Slot {
    /// The number of the newest claim, which is the only one that can be valid. Only grows, and
    /// only while `held` is locked.
    newest: AtomicU64,
    /// Locked while the file is used.
    held: Mutex<Option<Held>>,
}

/// What the user of a file holds.
#[derive(Debug)]
pub struct Held {
    owner: String,
    lock: File,
    /// The file itself, locked, as it was opened or saved last.
    file: Option<File>,
}

impl Held {
    /// Locks what is at the path, if it is not what was locked last.
    ///
    /// # Errors
    ///
    /// Another process has it, whose lock file is gone.
    pub fn lock_file(&mut self, path: &Path) -> Result<(), UsageFileError> {
        while let Some(file) = open_if_there(path)? {
            if self.file.as_ref().is_some_and(|ours| is_same(ours, &file)) {
                return Ok(());
            }
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let by = "another process, whose lock file was removed".to_owned();
                    return Err(UsageFileError::InUse { path: path.to_owned(), by });
                }
                Err(TryLockError::Error(source)) => return Err(cannot("lock", path)(source)),
            }
            // Its user may have saved between the two, and what is locked now is nobody's.
            let there = open_if_there(path)?;
            let is_there = there.is_some_and(|there| is_same(&there, &file));
            self.keep(file);
            if is_there {
                break;
            }
        }
        Ok(())
    }

    /// Keeps a locked file, and releases the one before.
    pub fn keep(&mut self, file: File) {
        if let Some(before) = self.file.replace(file) {
            let _ = before.unlock();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Closing is not enough: a child that was forked and has not yet started its program has a
        // copy of the open file, which would keep the lock. Should this fail, closing is what is
        // left.
        let _ = self.lock.unlock();
        let _ = self.file.as_ref().map(File::unlock);
    }
}

/// Whether two open files are one.
fn is_same(left: &File, right: &File) -> bool {
    let id = |file: &File| file.metadata().map(|found| (found.dev(), found.ino()));
    matches!((id(left), id(right)), (Ok(left), Ok(right)) if left == right)
}

impl Lease {
    /// Claims a resolved path, also from a predecessor of the same name in this process. If that
    /// is using the file at this moment, waits until it has finished.
    pub fn take(path: &Path, owner: &str) -> Result<Self, UsageFileError> {
        let slot = Arc::clone(slots().entry(path.to_owned()).or_default());
        // From here on, dropping gives back whatever there is to give back.
        let mut claim = Self { path: path.to_owned(), slot, number: 0 };
        claim.number = claim.acquire(owner)?;
        Ok(claim)
    }

    fn acquire(&self, owner: &str) -> Result<u64, UsageFileError> {
        let mut held = self.slot.held();
        match &*held {
            Some(held) if held.owner == owner => {}
            Some(held) => return Err(self.in_use(signature(&held.owner))),
            None => {
                let lock = self.lock(owner)?;
                *held = Some(Held { owner: owner.to_owned(), lock, file: None });
            }
        }
        // Relaxed, here and below: the lock orders what matters.
        Ok(self.slot.newest.fetch_add(1, Relaxed) + 1)
    }

    /// Uses the file, unless a successor has taken it over; one that comes meanwhile waits.
    pub fn during<R>(
        &self,
        work: impl FnOnce(&mut Held) -> Result<R, UsageFileError>,
    ) -> Result<R, UsageFileError> {
        match &mut *self.slot.held() {
            // Only the newest claim has anything to give back, so it is still there.
            Some(held) if self.is_newest() => work(held),
            _ => Err(UsageFileError::TakenOver { path: self.path.clone() }),
        }
    }

    fn is_newest(&self) -> bool {
        self.slot.newest.load(Relaxed) == self.number
    }

    fn lock(&self, owner: &str) -> Result<File, UsageFileError> {
        let path = with_suffix(&self.path, "lock");
        let cannot_lock = |source| UsageFileError::Io { doing: "lock", path: path.clone(), source };
        let mut file = open(&path).map_err(cannot_lock)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(self.in_use(read_signature(&mut file))),
            Err(TryLockError::Error(source)) => return Err(cannot_lock(source)),
        }
        // Who holds the lock is for people to read. It is held without that, too, for example
        // when the disk is full.
        let _ = sign(&mut file, owner);
        Ok(file)
    }

    fn in_use(&self, by: String) -> UsageFileError {
        UsageFileError::InUse { path: self.path.clone(), by }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut slots = slots();
        // Asked before as well: a successor may keep the slot locked until its save is on the disk.
        if self.is_newest() {
            let mut held = self.slot.held();
            if self.is_newest() {
                *held = None;
            }
        }
        // Claims are made with the slots locked: if only the map and this claim have the slot, then
        // nobody else is about to use it.
        if Arc::strong_count(&self.slot) == 2 {
            slots.remove(&self.path);
        }
    }
}

fn slots() -> MutexGuard<'static, BTreeMap<PathBuf, Arc<Slot>>> {
    lock(&SLOTS)
}

impl Slot {
    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        lock(&self.held)
    }
}

fn open(path: &Path) -> io::Result<File> {
    // A link could point to any file, and that would be overwritten.
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

fn signature(owner: &str) -> String {
    format!("{owner} (OS process {})", process::id())
}

fn sign(file: &mut File, owner: &str) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", signature(owner))
}

fn read_signature(file: &mut File) -> String {
    let mut text = Vec::new();
    // An unreadable signature is as good as none.
    let _ = file.take(1_024).read_to_end(&mut text);
    match String::from_utf8_lossy(&text).lines().next() {
        Some(holder) => holder.to_owned(),
        None => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the slots know of the files in this folder.
    fn slots_in(folder: &Path) -> usize {
        slots().keys().filter(|path| path.starts_with(folder)).count()
    }

    #[test]
    fn nothing_is_remembered_of_a_file_that_nobody_uses() {
        let folder = std::env::temp_dir().join(format!("usage-claims-{}", process::id()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("usage");
        let first = Lease::take(&path, "A").unwrap();
        let second = Lease::take(&path, "A").unwrap();
        assert!(Lease::take(&path, "B").is_err());
        drop(first);
        assert_eq!(slots_in(&folder), 1);
        drop(second);
        assert_eq!(slots_in(&folder), 0);
        assert!(Lease::take(&folder.join("missing/usage"), "A").is_err());
        assert_eq!(slots_in(&folder), 0);
        fs::remove_dir_all(&folder).unwrap();
    }
}
