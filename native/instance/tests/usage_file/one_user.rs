//! Who may open a file, and who takes over from whom.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::process::{self, Command};
use std::sync::mpsc;
use std::thread;

use telemetry_instance::usage::Usage;
use telemetry_instance::usage_file::{UsageFile, UsageFileError};
use telemetry_recording::family::UsageKind;

use crate::process::{Process, child_file};
use crate::{Folder, OWNER, open, read, refused, snapshot};

#[test]
fn a_file_is_in_use_under_every_spelling_until_it_is_released() {
    let folder = Folder::new();
    symlink(&folder.0, folder.0.join("folder-link")).unwrap();
    symlink("usage", folder.0.join("file-link")).unwrap();
    let spellings = [
        folder.file(),
        folder.0.join("../").join(folder.0.file_name().unwrap()).join("usage"),
        folder.0.join("folder-link/usage"),
        folder.0.join("file-link"),
    ];
    let (file, _) = open(&folder.file());
    for spelling in &spellings {
        let message = refused(spelling).to_string();
        let path = folder.file();
        let pid = process::id();
        assert_eq!(
            message,
            format!(
                "usage file {} is in use by {OWNER} (OS process {pid}); \
                 give each instance a file of its own",
                path.display()
            ),
        );
    }
    drop(file);
    for spelling in &spellings {
        UsageFile::open(spelling, "Another").unwrap();
    }
}

#[test]
fn the_lock_holds_where_paths_cannot_tell_that_two_files_are_one() {
    let folder = Folder::new();
    let (_file, _) = open(&folder.file());
    fs::hard_link(folder.0.join("usage.lock"), folder.0.join("same.lock")).unwrap();
    assert!(matches!(refused(&folder.0.join("same")), UsageFileError::InUse { .. }));
}

#[test]
fn a_successor_of_the_same_name_takes_over() {
    let folder = Folder::new();
    let (first, _) = open(&folder.file());
    first.save(&snapshot(1_000)).unwrap();
    let (second, restored) = open(&folder.file());
    assert_eq!(restored.snapshot, Some(snapshot(1_000)));
    let refusal = first.save(&snapshot(5_000)).unwrap_err();
    assert!(matches!(refusal, UsageFileError::TakenOver { .. }));
    assert!(refusal.to_string().contains("taken over by a newer owner"));
    second.save(&snapshot(2_000)).unwrap();
    // Its end does not release what it no longer has.
    drop(first);
    assert!(matches!(refused(&folder.file()), UsageFileError::InUse { .. }));
    second.save(&snapshot(3_000)).unwrap();
    drop(second);
    assert_eq!(read(&folder.file()), Some(snapshot(3_000)));
}

#[test]
fn a_takeover_sees_the_last_save_of_its_predecessor() {
    let folder = Folder::new();
    let small = |total| {
        let usage = Usage::new(1);
        usage.add(UsageKind::Tool, "a", total, 1);
        usage.snapshot()
    };
    let mut file = open(&folder.file()).0;
    for round in 1..200 {
        let (sender, saves) = mpsc::channel();
        let predecessor = thread::spawn(move || {
            for number in round * 100_000.. {
                if let Err(error) = file.save(&small(number)) {
                    return (number - 1, error);
                }
                sender.send(()).unwrap();
            }
            unreachable!("it is taken over");
        });
        saves.recv().expect("a first save");
        let (successor, restored) = open(&folder.file());
        let (last, error) = predecessor.join().unwrap();
        assert_eq!(restored.snapshot, Some(small(last)));
        assert!(matches!(error, UsageFileError::TakenOver { .. }), "{error}");
        file = successor;
    }
}

#[test]
fn child_holds_the_file_until_it_is_killed() {
    let Some(path) = child_file() else { return };
    let _file = open(&path);
    println!("\nheld");
    std::io::stdin().lines().for_each(drop);
}

#[test]
fn a_file_in_use_by_another_process_is_refused_even_to_the_same_name() {
    let folder = Folder::new();
    let mut holder =
        Process::start("one_user::child_holds_the_file_until_it_is_killed", "", &folder.file());
    let mut output = BufReader::new(holder.0.stdout.take().unwrap()).lines();
    assert!(output.any(|line| line.unwrap() == "held"));
    let message = UsageFile::open(&folder.file(), OWNER).unwrap_err().to_string();
    assert!(message.contains(&format!("{OWNER} (OS process {})", holder.0.id())), "{message}");
    holder.kill();
    open(&folder.file());
}

#[test]
fn without_its_lock_file_a_file_in_use_is_refused_too() {
    let folder = Folder::new();
    let start =
        || Process::start("one_user::child_holds_the_file_until_it_is_killed", "", &folder.file());
    // Before the first save there is something to lock as well, and after a file was set aside.
    for before in [None, Some("precious notes".into()), Some(saved())] {
        if let Some(contents) = before {
            fs::write(folder.file(), contents).unwrap();
        }
        let mut holder = start();
        let mut output = BufReader::new(holder.0.stdout.take().unwrap()).lines();
        assert!(output.any(|line| line.unwrap() == "held"));
        for _ in 0..2 {
            fs::remove_file(folder.0.join("usage.lock")).unwrap();
            let message = UsageFile::open(&folder.file(), OWNER).unwrap_err().to_string();
            assert!(message.contains("in use by another process, whose lock file"), "{message}");
        }
        holder.kill();
        drop(open(&folder.file()));
        fs::remove_file(folder.file()).unwrap();
    }
    // And each save is locked.
    let (file, _) = open(&folder.file());
    file.save(&snapshot(1_000)).unwrap();
    file.save(&snapshot(2_000)).unwrap();
    fs::remove_file(folder.0.join("usage.lock")).unwrap();
    let mut second = start();
    let mut output = String::new();
    second.0.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(!second.0.wait().unwrap().success(), "{output}");
    file.save(&snapshot(3_000)).unwrap();
    drop(file);
    assert_eq!(read(&folder.file()), Some(snapshot(3_000)));
}

/// The contents of a usage file.
fn saved() -> Vec<u8> {
    let folder = Folder::new();
    open(&folder.file()).0.save(&snapshot(500)).unwrap();
    fs::read(folder.file()).unwrap()
}

#[test]
fn a_file_that_was_replaced_is_locked_before_it_is_saved_to() {
    let folder = Folder::new();
    let (file, _) = open(&folder.file());
    file.save(&snapshot(1_000)).unwrap();
    fs::rename(folder.file(), folder.0.join("backup")).unwrap();
    file.save(&snapshot(2_000)).unwrap();
    fs::rename(folder.0.join("backup"), folder.file()).unwrap();
    file.save(&snapshot(3_000)).unwrap();
    // Another process has put its own there, and holds it.
    fs::remove_file(folder.file()).unwrap();
    fs::remove_file(folder.0.join("usage.lock")).unwrap();
    let mut second =
        Process::start("one_user::child_holds_the_file_until_it_is_killed", "", &folder.file());
    let mut output = BufReader::new(second.0.stdout.take().unwrap()).lines();
    assert!(output.any(|line| line.unwrap() == "held"));
    let error = file.save(&snapshot(4_000)).unwrap_err();
    assert!(matches!(error, UsageFileError::InUse { .. }), "{error}");
    second.kill();
    file.save(&snapshot(5_000)).unwrap();
    drop(file);
    assert_eq!(read(&folder.file()), Some(snapshot(5_000)));
}

#[test]
fn a_released_file_is_free_while_other_processes_are_started() {
    let folder = Folder::new();
    thread::scope(|scope| {
        let spawner = scope.spawn(|| {
            for _ in 0..100 {
                assert!(Command::new("true").status().unwrap().success());
            }
        });
        while !spawner.is_finished() {
            open(&folder.file());
        }
    });
}
