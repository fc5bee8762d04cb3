//! Who else may write where a usage file is. Whoever may could put a link to another file in its
//! place, and this process would rename that.

use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{UsageFileError, cannot};

/// The group and others may write.
const OTHERS: u32 = 0o022;
/// Anybody may write.
const ANYBODY: u32 = 0o002;
/// What is in the folder may only be renamed and removed by its owner.
const STICKY: u32 = 0o1000;

/// Why others could have changed a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// Its mode lets them.
    Mode(u32),
    /// It is theirs.
    Owner {
        /// Whose it is.
        owner: u32,
        /// Who this process is.
        process: u32,
    },
}

impl fmt::Display for Distrust {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mode(mode) => write!(
                formatter,
                "may be written by others (mode {mode:04o}); run chmod go-w on it, or choose \
                 another path"
            ),
            Self::Owner { owner, process } => write!(
                formatter,
                "belongs to user {owner}, and neither to root nor to user {process}, who runs \
                 this; give it to that user, or choose another path"
            ),
        }
    }
}

/// Refuses a folder in which others may write, or that they may replace.
pub fn check_folder(path: &Path, folder: &Path) -> Result<(), UsageFileError> {
    let found = |at: &Path| fs::metadata(at).map_err(cannot("check the folder of", path));
    check(path, folder, &found(folder)?)?;
    for above in folder.ancestors().skip(1) {
        let mode = found(above)?.mode();
        if mode & ANYBODY != 0 && mode & STICKY == 0 {
            return Err(refusal(path, above, Distrust::Mode(mode & 0o7777)));
        }
    }
    Ok(())
}

/// Refuses a file that others may write.
pub fn check_file(path: &Path, found: &Metadata) -> Result<(), UsageFileError> {
    check(path, path, found)
}

fn check(path: &Path, at: &Path, found: &Metadata) -> Result<(), UsageFileError> {
    let (owner, process) = (found.uid(), user());
    if owner != 0 && owner != process {
        return Err(refusal(path, at, Distrust::Owner { owner, process }));
    }
    if found.mode() & OTHERS != 0 {
        return Err(refusal(path, at, Distrust::Mode(found.mode() & 0o7777)));
    }
    Ok(())
}

fn refusal(path: &Path, at: &Path, why: Distrust) -> UsageFileError {
    UsageFileError::Untrusted { path: path.to_owned(), at: at.to_owned(), why }
}

/// Who runs this process.
fn user() -> u32 {
    // SAFETY: it has no arguments, touches no memory of ours and cannot fail.
    unsafe { libc::geteuid() }
}
