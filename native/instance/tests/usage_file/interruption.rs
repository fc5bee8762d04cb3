//! Saves that fail, and processes that are killed while they save.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use telemetry_instance::usage_file::UsageFileError;

use crate::process::{Process, child_file};
use crate::{Folder, NOTHING_SAVED, open, read, snapshot, total};

#[test]
fn a_save_that_fails_leaves_the_file_as_it_was() {
    let folder = Folder::new();
    let (file, _) = open(&folder.file());
    file.save(&snapshot(1_000)).unwrap();
    // Where the temporary file should be.
    fs::create_dir(folder.0.join("usage.tmp")).unwrap();
    assert!(matches!(file.save(&snapshot(2_000)), Err(UsageFileError::Io { .. })));
    fs::remove_dir(folder.0.join("usage.tmp")).unwrap();
    drop(file);
    let (file, restored) = open(&folder.file());
    assert_eq!(restored.snapshot, Some(snapshot(1_000)));
    fs::remove_dir_all(&folder.0).unwrap();
    let error = file.save(&snapshot(2_000)).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot save usage file {}", folder.file().display())));
}

#[test]
fn child_cannot_write_that_much() {
    let Some(path) = child_file() else { return };
    let (file, restored) = open(&path);
    assert_eq!(restored.snapshot, Some(snapshot(1_000)));
    let error = file.save(&snapshot(2_000)).unwrap_err().to_string();
    assert!(error.contains("cannot save"), "{error}");
}

#[test]
fn a_save_that_fails_halfway_leaves_the_file_as_it_was() {
    let folder = Folder::new();
    let (file, _) = open(&folder.file());
    file.save(&snapshot(1_000)).unwrap();
    drop(file);
    // Files of up to 8 blocks, and an error rather than a signal beyond that.
    let limited = "trap '' XFSZ; ulimit -f 8;";
    let mut child =
        Process::start("interruption::child_cannot_write_that_much", limited, &folder.file());
    let mut output = String::new();
    child.0.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(child.0.wait().unwrap().success() && output.contains("1 passed"), "{output}");
    assert_eq!(folder.names(), ["usage", "usage.lock"]);
    assert_eq!(read(&folder.file()), Some(snapshot(1_000)));
}

/// What a child wrote to say that a save has returned. It survives the child, not the machine.
fn acknowledged(path: &Path) -> u64 {
    let bytes = fs::read(path.with_extension("ack")).unwrap_or_default();
    bytes.try_into().map_or(NOTHING_SAVED, u64::from_le_bytes)
}

#[test]
fn child_saves_until_it_is_killed() {
    let Some(path) = child_file() else { return };
    let (file, restored) = open(&path);
    let last = restored.snapshot.map_or(NOTHING_SAVED, |snapshot| total(&snapshot));
    let acknowledgement = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.with_extension("ack"))
        .unwrap();
    for number in last + 1.. {
        file.save(&snapshot(number)).unwrap();
        acknowledgement.write_all_at(&number.to_le_bytes(), 0).unwrap();
    }
}

#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_saved() {
    let folder = Folder::new();
    let mut last = NOTHING_SAVED;
    for round in 0..30_u64 {
        let mut child =
            Process::start("interruption::child_saves_until_it_is_killed", "", &folder.file());
        while acknowledged(&folder.file()) <= last {
            assert_eq!(child.0.try_wait().unwrap(), None, "ended too early");
            thread::yield_now();
        }
        // A different moment of a save each time.
        thread::sleep(Duration::from_micros(round * 7_919 % 5_000));
        child.kill();
        let (_file, restored) = open(&folder.file());
        assert_eq!(restored.set_aside, None);
        let saved = total(&restored.snapshot.unwrap());
        let acknowledged = acknowledged(&folder.file());
        assert!(acknowledged > last);
        assert!((acknowledged..=acknowledged + 1).contains(&saved), "{saved}, {acknowledged}");
        last = saved;
    }
}
