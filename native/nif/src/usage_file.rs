//! The file that an instance saves its usage counts in.

use serde::Serialize;
use telemetry_common::moment::Moment;
use telemetry_instance::instance::Instance;
use telemetry_instance::usage_file::UsageFile;

/// The file of an instance.
#[derive(Default)]
pub enum File {
    /// Counts are kept in memory only.
    #[default]
    None,
    /// Counts are saved.
    Open(Open),
    /// They were saved for the last time.
    Closed,
}

/// A file that is in use.
pub struct Open {
    pub file: UsageFile,
    pub state: FileState,
    /// What was saved last.
    pub saved_revision: u64,
}

/// What is told of the file.
#[derive(Clone, Serialize)]
pub struct FileState {
    pub path: String,
    pub restored: bool,
    pub set_aside: Option<SetAside>,
    pub last_error: Option<String>,
}

/// A file that was none of ours, and where it went.
#[derive(Clone, Serialize)]
pub struct SetAside {
    pub path: String,
    pub why: &'static str,
}

impl Open {
    /// Writes the counts if they have changed.
    pub fn save(&mut self, instance: &Instance, now: Moment) -> Result<(), String> {
        let usage = instance.usage(now);
        // Before the counts: what changes between the two is saved again next time.
        let revision = usage.revision();
        if revision == self.saved_revision {
            return Ok(());
        }
        let saved = self.file.save(&usage.snapshot()).map_err(|error| error.to_string());
        if saved.is_ok() {
            self.saved_revision = revision;
        }
        self.state.last_error = saved.clone().err();
        saved
    }
}
