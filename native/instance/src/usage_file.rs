//! A file that usage survives a restart in.
//!
//! It has one user at a time, is replaced as a whole or not at all, and is never lost: what cannot
//! be read is set aside under another name. Where others may write, or where a link leads to what is
//! no usage file, nothing is touched.

mod format;
mod lease;
mod trust;

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use thiserror::Error;

use crate::usage::Snapshot;
use lease::{Held, Lease};
pub use trust::Distrust;

/// How many links a path may lead through; as many as Linux follows.
const LINK_LIMIT: usize = 40;

/// A usage file that is open, and nobody else's.
///
/// Dropping it releases the file.
#[derive(Debug)]
pub struct UsageFile {
    path: PathBuf,
    claim: Lease,
}

/// What was found when a usage file was opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Restored {
    /// What the file contained; nothing if there was none, or none that could be read.
    pub snapshot: Option<Snapshot>,
    /// Where a file went that could not be read.
    pub set_aside: Option<SetAside>,
}

/// A file that could not be read and was renamed.
#[derive(Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Its new path.
    pub path: PathBuf,
    /// Why it could not be read.
    pub why: Flaw,
}

/// Why a file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Its contents are not what was written.
    Damaged,
    /// Its end is missing.
    Truncated,
    /// It is no usage file.
    Foreign,
    /// It was written by a newer version of this library.
    Newer,
}

impl Flaw {
    /// The flaw in a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Truncated => "truncated",
            Self::Foreign => "foreign",
            Self::Newer => "newer",
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Why a usage file cannot be opened or saved. Nothing was changed then, but see
/// [`UsageFile::save`].
#[derive(Debug, Error)]
pub enum UsageFileError {
    /// A path such as `/` or `folder/..`.
    #[error("usage file {} has no file name; give the path of a file", .path.display())]
    NoFileName {
        /// The path.
        path: PathBuf,
    },
    /// The folder is missing, or is none, or cannot be entered.
    #[error(
        "usage file {} needs the folder {}: {source}; create it or choose another path",
        .path.display(), .folder.display()
    )]
    Folder {
        /// The path of the file.
        path: PathBuf,
        /// The folder that it would be in.
        folder: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A folder, a device or the like.
    #[error("usage file {} is not a regular file; choose another path", .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Others may write to the file, to its folder, or to one above it.
    #[error("usage file {} is not safe: {} {why}", .path.display(), .at.display())]
    Untrusted {
        /// The path of the file.
        path: PathBuf,
        /// The file or folder that they may write to.
        at: PathBuf,
        /// Why.
        why: Distrust,
    },
    /// A link leads to something else.
    #[error(
        "usage file {} leads through a link to {}, which is no usage file; remove the link or \
         choose another path",
        .path.display(), .target.display()
    )]
    LinkToForeign {
        /// The path.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// Somebody else has the file open.
    #[error(
        "usage file {} is in use by {by}; give each instance a file of its own",
        .path.display()
    )]
    InUse {
        /// The path.
        path: PathBuf,
        /// The owner and its OS process.
        by: String,
    },
    /// An owner of the same name has opened the file since.
    #[error(
        "usage file {} was taken over by a newer owner of the same name; it was not saved",
        .path.display()
    )]
    TakenOver {
        /// The path.
        path: PathBuf,
    },
    /// A file that cannot be read could not be renamed either.
    #[error(
        "usage file {} is {why} and cannot be renamed to {} ({source}); move it away",
        .path.display(), .to.display()
    )]
    SetAside {
        /// The path.
        path: PathBuf,
        /// Why the file cannot be read.
        why: Flaw,
        /// The path that it would have got.
        to: PathBuf,
        /// Why that failed.
        source: io::Error,
    },
    /// The operating system refused something.
    #[error("cannot {doing} usage file {}: {source}", .path.display())]
    Io {
        /// What was refused.
        doing: &'static str,
        /// The path, or that of its lock or temporary file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl UsageFile {
    /// Opens a file for its only user, or the place where it will be, and reads it. Links are
    /// followed now; what they point to later does not matter.
    ///
    /// An owner of the same name in this OS process is taken for a predecessor that was killed:
    /// the file is taken over from it, and it can no longer save.
    ///
    /// # Errors
    ///
    /// The file is in use or cannot be used, or others may write to it or to its folder. A file that
    /// can merely not be understood is no error: it is set aside, unless it is no usage file and a
    /// link led to it.
    pub fn open(path: &Path, owner: &str) -> Result<(Self, Restored), UsageFileError> {
        let given = path;
        let path = resolve(given)?;
        // Before anything is touched.
        if let Some(file) = open_if_there(&path)? {
            trust::check_file(&path, &file.metadata().map_err(cannot("read", &path))?)?;
        }
        let claim = Lease::take(&path, owner)?;
        let restored = claim.during(|held| {
            held.lock_file(&path)?;
            remove_if_there(&with_suffix(&path, "tmp"))?;
            let restored = restore(&path, given)?;
            if restored.snapshot.is_none() {
                // There is nothing to lock yet. Should this fail, the first save says so.
                let _ = format::encode(&Snapshot::default())
                    .map(|contents| replace(held, &path, &contents));
            }
            Ok(restored)
        })?;
        Ok((Self { path, claim }, restored))
    }

    /// Where the file is, after all links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the contents of the file, durably: they are on the disk when this returns.
    ///
    /// # Errors
    ///
    /// The file was taken over, or cannot be written. It is then as it was, unless only the sync of
    /// its folder failed: then it is new, but may be the old one again after a power failure.
    pub fn save(&self, snapshot: &Snapshot) -> Result<(), UsageFileError> {
        let contents = format::encode(snapshot).map_err(self.cannot("encode"))?;
        self.claim.during(|held| {
            held.lock_file(&self.path)?;
            replace(held, &self.path, &contents)
        })
    }

    fn cannot(&self, doing: &'static str) -> impl FnOnce(io::Error) -> UsageFileError {
        cannot(doing, &self.path)
    }
}

fn cannot(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UsageFileError {
    move |source| UsageFileError::Io { doing, path: path.to_owned(), source }
}

/// Puts a file with these contents into the place of another, and locks it before it is there.
fn replace(held: &mut Held, path: &Path, contents: &[u8]) -> Result<(), UsageFileError> {
    let temporary = with_suffix(path, "tmp");
    remove_if_there(&temporary)?;
    let replaced = write_new(&temporary, contents)
        .and_then(|file| {
            file.try_lock()?;
            fs::rename(&temporary, path)?;
            Ok(file)
        })
        .map_err(cannot("save", path));
    if replaced.is_err() {
        // The next save will try again to remove it.
        let _ = fs::remove_file(&temporary);
    }
    held.keep(replaced?);
    sync_folder_of(path).map_err(cannot("sync the folder of", path))
}

/// The one path of a file, however it is spelled and linked to. The file need not exist.
fn resolve(given: &Path) -> Result<PathBuf, UsageFileError> {
    let mut path = given.to_owned();
    for _ in 0..LINK_LIMIT {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(UsageFileError::NoFileName { path });
        };
        let here = folder.as_os_str().is_empty();
        let folder = if here { Path::new(".") } else { folder };
        let folder = match folder.canonicalize() {
            Ok(found) if found.is_dir() => found,
            Ok(_) => return Err(folder_error(&path, folder, io::ErrorKind::NotADirectory.into())),
            Err(source) => return Err(folder_error(&path, folder, source)),
        };
        trust::check_folder(&path, &folder)?;
        let resolved = folder.join(name);
        match fs::read_link(&resolved) {
            Ok(target) => path = folder.join(target),
            Err(_) => return Ok(resolved),
        }
    }
    Err(cannot("follow the links of", given)(io::Error::other("they have no end")))
}

fn folder_error(path: &Path, folder: &Path, source: io::Error) -> UsageFileError {
    UsageFileError::Folder { path: path.to_owned(), folder: folder.to_owned(), source }
}

fn open_if_there(path: &Path) -> Result<Option<File>, UsageFileError> {
    match fs::metadata(path) {
        // Asked before, because opening a pipe waits for who writes to it.
        Ok(found) if !found.is_file() => Err(UsageFileError::NotAFile { path: path.to_owned() }),
        Ok(_) => File::open(path).map(Some).map_err(cannot("read", path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot("read", path)(error)),
    }
}

fn remove_if_there(path: &Path) -> Result<(), UsageFileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Reads the file at `path`, which was given as `given`.
fn restore(path: &Path, given: &Path) -> Result<Restored, UsageFileError> {
    let Some(file) = open_if_there(path)? else {
        return Ok(Restored { snapshot: None, set_aside: None });
    };
    let length = file.metadata().map_err(cannot("read", path))?.len();
    match format::read(file, length).map_err(cannot("read", path))? {
        Ok(snapshot) => Ok(Restored { snapshot: Some(snapshot), set_aside: None }),
        Err(unreadable) if !unreadable.is_ours && is_linked(path, given) => {
            let (path, target) = (given.to_owned(), path.to_owned());
            Err(UsageFileError::LinkToForeign { path, target })
        }
        Err(format::Unreadable { why, .. }) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let set_aside = SetAside { path: set_aside(path, why, now.as_secs())?, why };
            Ok(Restored { snapshot: None, set_aside: Some(set_aside) })
        }
    }
}

/// Whether a link led to a path, that of a folder or of the file.
fn is_linked(path: &Path, given: &Path) -> bool {
    let Ok(absolute) = std::path::absolute(given) else { return true };
    let mut spelled = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => drop(spelled.pop()),
            part => spelled.push(part),
        }
    }
    spelled != path
}

/// Renames a file to the first free name of its flaw and time.
fn set_aside(path: &Path, why: Flaw, unix_seconds: u64) -> Result<PathBuf, UsageFileError> {
    let mut to = with_suffix(path, &format!("{why}-{unix_seconds}"));
    for number in 1_u64.. {
        // Renaming replaces what is there. A new empty file can be replaced without loss.
        match File::create_new(&to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => {
                let renamed = created.and_then(|reserved| {
                    drop(reserved);
                    fs::rename(path, &to).inspect_err(|_| drop(fs::remove_file(&to)))
                });
                return match renamed {
                    Ok(()) => Ok(to),
                    Err(source) => {
                        Err(UsageFileError::SetAside { path: path.to_owned(), why, to, source })
                    }
                };
            }
        }
        to = with_suffix(path, &format!("{why}-{unix_seconds}-{number}"));
    }
    Ok(to)
}

/// A file that did not exist before, which rules out links and other people's permissions.
fn write_new(path: &Path, contents: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // Whatever the umask took away.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(contents)?;
    file.sync_all()?;
    Ok(file)
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(path);
    path.push(".");
    path.push(suffix);
    path.into()
}
