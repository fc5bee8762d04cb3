//! What a usage file does when others want it, when it cannot be read, and when a save fails.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a failed test")]

mod interruption;
mod one_user;
mod process;

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use telemetry_instance::usage::{Snapshot, Usage};
use telemetry_instance::usage_file::{Flaw, Restored, UsageFile, UsageFileError};
use telemetry_recording::family::UsageKind;

const OWNER: &str = "MyApp.Telemetry";
/// The total of the first snapshot that a test might save, less one.
const NOTHING_SAVED: u64 = 300;

/// A folder of a test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("usage-file-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        // Whatever the umask is.
        set_mode(&path, 0o700);
        Self(path.canonicalize().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.join("usage")
    }

    fn names(&self) -> Vec<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let names = fs::read_dir(&self.0).unwrap().map(|entry| name(entry).into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A snapshot with this total, of some size.
fn snapshot(total: u64) -> Snapshot {
    let usage = Usage::new(300);
    for number in 0..300 {
        usage.add(UsageKind::Tool, &format!("tool {number}"), 1, total);
    }
    usage.add(UsageKind::Variable, "rest", total - 300, total);
    usage.snapshot()
}

fn total(snapshot: &Snapshot) -> u64 {
    snapshot.iter().map(|kept| kept.total).sum()
}

fn open(path: &Path) -> (UsageFile, Restored) {
    UsageFile::open(path, OWNER).unwrap()
}

fn refused(path: &Path) -> UsageFileError {
    UsageFile::open(path, "Another").unwrap_err()
}

fn read(path: &Path) -> Option<Snapshot> {
    open(path).1.snapshot
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn what_is_saved_is_restored() {
    let folder = Folder::new();
    let (file, restored) = open(&folder.file());
    assert_eq!(restored, Restored { snapshot: None, set_aside: None });
    file.save(&snapshot(1_000)).unwrap();
    file.save(&snapshot(2_000)).unwrap();
    drop(file);
    let (_file, restored) = open(&folder.file());
    assert_eq!(restored, Restored { snapshot: Some(snapshot(2_000)), set_aside: None });
    assert_eq!(folder.names(), ["usage", "usage.lock"]);
}

#[test]
fn files_are_for_their_owner_only_whatever_was_there() {
    let folder = Folder::new();
    for (name, mode) in [("usage", 0o644), ("usage.lock", 0o666), ("usage.tmp", 0o666)] {
        let path = folder.0.join(name);
        fs::write(&path, "").unwrap();
        set_mode(&path, mode);
    }
    let (file, _) = open(&folder.file());
    file.save(&snapshot(300)).unwrap();
    assert_eq!(mode(&folder.file()), 0o600);
    assert_eq!(mode(&folder.0.join("usage.lock")), 0o600);
}

#[test]
fn a_leftover_temporary_file_is_removed() {
    let folder = Folder::new();
    fs::write(folder.0.join("usage.tmp"), "half").unwrap();
    let _file = open(&folder.file());
    assert_eq!(folder.names(), ["usage", "usage.lock"]);
}

#[test]
fn a_file_that_cannot_be_read_is_set_aside() {
    let folder = Folder::new();
    let (file, _) = open(&folder.file());
    file.save(&snapshot(1_000)).unwrap();
    drop(file);
    let good = fs::read(folder.file()).unwrap();
    let mut damaged = good.clone();
    damaged[200] ^= 1;
    let newer = String::from_utf8(good.clone()).unwrap().replacen("version=1", "version=2", 1);
    let cases: [(&[u8], Flaw, &str); 5] = [
        (b"", Flaw::Truncated, "truncated"),
        (&good[..500], Flaw::Truncated, "truncated"),
        (&damaged, Flaw::Damaged, "damaged"),
        (b"precious notes", Flaw::Foreign, "foreign"),
        (newer.as_bytes(), Flaw::Newer, "newer"),
    ];
    for (contents, why, word) in cases {
        fs::write(folder.file(), contents).unwrap();
        let (file, restored) = open(&folder.file());
        assert_eq!(restored.snapshot, None);
        let set_aside = restored.set_aside.unwrap();
        assert_eq!(set_aside.why, why);
        let name = set_aside.path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with(&format!("usage.{word}-")), "{name}");
        assert_eq!(fs::read(&set_aside.path).unwrap(), contents);
        file.save(&snapshot(300)).unwrap();
        assert_eq!(fs::read(&set_aside.path).unwrap(), contents);
    }
}

#[test]
fn setting_aside_overwrites_nothing() {
    let folder = Folder::new();
    let mut paths = Vec::new();
    for number in 0..20 {
        fs::write(folder.file(), format!("foreign {number}")).unwrap();
        paths.push(open(&folder.file()).1.set_aside.unwrap().path);
    }
    for (number, path) in paths.iter().enumerate() {
        assert_eq!(fs::read_to_string(path).unwrap(), format!("foreign {number}"));
    }
}

#[test]
fn what_can_be_neither_read_nor_set_aside_stays() {
    let folder = Folder::new();
    // Long enough for the lock and the temporary file, too long for `.foreign-…`.
    let path = folder.0.join("u".repeat(250));
    fs::write(&path, "precious notes").unwrap();
    let error = refused(&path);
    assert!(matches!(error, UsageFileError::SetAside { why: Flaw::Foreign, .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious notes");
    assert_eq!(folder.names().len(), 2);
    // The refused open released the file.
    fs::remove_file(&path).unwrap();
    open(&path);
}

#[test]
fn what_is_no_file_is_refused_and_untouched() {
    let folder = Folder::new();
    let not_a_file = folder.file();
    fs::create_dir(&not_a_file).unwrap();
    set_mode(&not_a_file, 0o755);
    fs::write(folder.0.join("plain"), "").unwrap();
    symlink("loop", folder.0.join("loop")).unwrap();
    assert!(Command::new("mkfifo").arg(folder.0.join("pipe")).status().unwrap().success());
    let names = folder.names();
    let refusal = |path: PathBuf| (refused(&path).to_string(), path.display().to_string());

    for (path, reason) in [
        (not_a_file, "is not a regular file"),
        (folder.0.join("pipe"), "is not a regular file"),
        (folder.0.join("missing/usage"), "needs the folder"),
        (folder.0.join("plain/usage"), "needs the folder"),
        (folder.0.join("loop"), "cannot follow the links"),
        (folder.0.join(".."), "has no file name"),
        (PathBuf::new(), "has no file name"),
    ] {
        let (message, path) = refusal(path);
        assert!(message.contains(reason) && message.contains(&path), "{message}");
    }
    assert_eq!(folder.names(), names);
}

#[test]
fn a_lock_file_that_is_a_link_is_not_followed() {
    let folder = Folder::new();
    fs::write(folder.0.join("victim"), "precious notes").unwrap();
    symlink("victim", folder.0.join("usage.lock")).unwrap();
    assert!(refused(&folder.file()).to_string().contains("cannot lock"));
    fs::remove_file(folder.0.join("usage.lock")).unwrap();
    symlink("victim", folder.0.join("usage.tmp")).unwrap();
    let (file, _) = open(&folder.file());
    symlink("victim", folder.0.join("usage.tmp")).unwrap();
    file.save(&snapshot(300)).unwrap();
    assert_eq!(fs::read_to_string(folder.0.join("victim")).unwrap(), "precious notes");
}

#[test]
fn saving_through_a_link_replaces_what_it_points_to() {
    let folder = Folder::new();
    fs::create_dir(folder.0.join("data")).unwrap();
    set_mode(&folder.0.join("data"), 0o755);
    // It points to nothing yet.
    symlink("data/usage", folder.file()).unwrap();
    let (file, _) = open(&folder.file());
    assert_eq!(file.path(), folder.0.join("data/usage"));
    file.save(&snapshot(1_000)).unwrap();
    drop(file);
    assert!(fs::symlink_metadata(folder.file()).unwrap().is_symlink());
    assert_eq!(read(&folder.0.join("data/usage")), Some(snapshot(1_000)));
}

/// What is in a folder, links as what they are.
fn contents(folder: &Folder) -> Vec<(String, Option<PathBuf>, Option<Vec<u8>>)> {
    let of = |name: String| {
        let path = folder.0.join(&name);
        (name, fs::read_link(&path).ok(), fs::read(&path).ok())
    };
    folder.names().into_iter().filter(|name| !name.ends_with(".lock")).map(of).collect()
}

#[test]
fn what_is_no_usage_file_is_never_renamed_through_a_link() {
    let folder = Folder::new();
    let elsewhere = Folder::new();
    symlink(&elsewhere.0, folder.0.join("folder-link")).unwrap();
    symlink(elsewhere.file(), folder.0.join("file-link")).unwrap();
    symlink("file-link", folder.0.join("link-to-link")).unwrap();
    for precious in ["precious notes", "", "dspex", "\0"] {
        fs::write(elsewhere.file(), precious).unwrap();
        let before = (contents(&folder), contents(&elsewhere));
        for link in ["file-link", "link-to-link", "folder-link/usage"] {
            let path = folder.0.join(link);
            let error = refused(&path);
            assert!(matches!(error, UsageFileError::LinkToForeign { .. }), "{error}");
            let (path, target) = (path.display(), elsewhere.file());
            let target = target.display();
            assert_eq!(
                error.to_string(),
                format!(
                    "usage file {path} leads through a link to {target}, which is no usage file; \
                     remove the link or choose another path"
                )
            );
            assert_eq!((contents(&folder), contents(&elsewhere)), before);
        }
    }
    // One of ours that is damaged is set aside: no more is lost by that than without a link.
    let (file, _) = open(&elsewhere.0.join("good"));
    file.save(&snapshot(1_000)).unwrap();
    let good = fs::read(elsewhere.0.join("good")).unwrap();
    fs::write(elsewhere.file(), &good[..500]).unwrap();
    let (_file, restored) = open(&folder.0.join("file-link"));
    assert_eq!(restored.set_aside.unwrap().why, Flaw::Truncated);
    // A way there and back is no link.
    let path = elsewhere.0.join("../").join(elsewhere.0.file_name().unwrap()).join("notes");
    fs::write(&path, "precious notes").unwrap();
    assert_eq!(open(&path).1.set_aside.unwrap().why, Flaw::Foreign);
}

#[test]
fn where_others_may_write_nothing_is_opened() {
    let folder = Folder::new();
    let inner = folder.0.join("inner");
    fs::create_dir(&inner).unwrap();
    let file = inner.join("usage");
    symlink(&file, folder.file()).unwrap();
    fs::write(&file, "precious notes").unwrap();
    // Folder, the one above it, file, and which of them is named.
    let cases = [
        (0o777, 0o700, 0o600, Some(&inner)),
        (0o1777, 0o700, 0o600, Some(&inner)),
        (0o775, 0o700, 0o600, Some(&inner)),
        (0o702, 0o700, 0o600, Some(&inner)),
        (0o700, 0o777, 0o600, Some(&folder.0)),
        (0o700, 0o700, 0o666, Some(&file)),
        (0o700, 0o700, 0o620, Some(&file)),
        (0o755, 0o1777, 0o644, None),
        (0o755, 0o775, 0o644, None),
    ];
    for (of_folder, above, of_file, named) in cases {
        set_mode(&inner, of_folder);
        set_mode(&folder.0, above);
        set_mode(&file, of_file);
        let before = fs::read_dir(&inner).unwrap().count();
        let Some(named) = named else {
            assert_eq!(open(&file).1.set_aside.unwrap().why, Flaw::Foreign);
            fs::write(&file, "precious notes").unwrap();
            continue;
        };
        let error = refused(&file);
        let expected = format!(
            "usage file {} is not safe: {} may be written by others (mode {:04o}); run chmod go-w \
             on it, or choose another path",
            file.display(),
            named.display(),
            mode(named),
        );
        assert_eq!(error.to_string(), expected);
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious notes");
        assert_eq!(fs::read_dir(&inner).unwrap().count(), before);
    }
    // Where a link is, others may not write either.
    set_mode(&folder.0, 0o1777);
    assert!(matches!(refused(&folder.file()), UsageFileError::Untrusted { .. }));
}

/// Only root can give files away.
#[test]
fn what_belongs_to_another_user_is_not_opened() {
    let folder = Folder::new();
    fs::write(folder.file(), "precious notes").unwrap();
    for path in [folder.file(), folder.0.clone()] {
        if std::os::unix::fs::chown(&path, Some(4_711), None).is_err() {
            return;
        }
        let message = refused(&folder.file()).to_string();
        assert!(message.contains(&path.display().to_string()), "{message}");
        assert!(message.contains("belongs to user 4711, and neither to root nor to user"));
        assert_eq!(fs::read_to_string(folder.file()).unwrap(), "precious notes");
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    }
}
