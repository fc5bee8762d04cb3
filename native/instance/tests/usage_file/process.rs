//! Tests of this binary that run as another process.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Tells a child process which file to use.
const CHILD_FILE: &str = "USAGE_FILE_OF_TEST_CHILD";

/// A test of this binary that runs as another process, and is killed at the end at the latest.
pub struct Process(pub Child);

impl Process {
    /// Starts a test, which finds the file by [`CHILD_FILE`].
    pub fn start(test: &str, shell_prefix: &str, file: &Path) -> Self {
        let script = format!("{shell_prefix} exec \"$0\" --exact --nocapture {test}");
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(env::current_exe().unwrap()).env(CHILD_FILE, file);
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    pub fn kill(mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None, "ended too early");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The file of this process, if it is such a child.
pub fn child_file() -> Option<PathBuf> {
    env::var_os(CHILD_FILE).map(PathBuf::from)
}
