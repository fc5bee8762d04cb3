use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use telemetry_instance::usage::{Snapshot, Usage};
use telemetry_instance::usage_file::{Restored, UsageFile};

use crate::memory::peak;
use crate::mutation::mutated;
use crate::{corpus, fuzz};

const DECODER: &str = "usage_file";
/// Names as JSON take less than what is made of them.
const ALLOWED_FACTOR: usize = 32;
const ALLOWED_BYTES: usize = 64 << 10;

/// A folder of a test's own, removed at its end; in memory where the system has such a place, as files are synced.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = parent.join(format!("fuzz-{test}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }

    fn usage(&self) -> PathBuf {
        self.0.join("usage")
    }

    /// What opening a file with these contents finds.
    fn open(&self, contents: &[u8]) -> (UsageFile, Restored) {
        fs::write(self.usage(), contents).unwrap();
        UsageFile::open(&self.usage(), "Fuzz").unwrap()
    }

    fn reopen(&self) -> Option<Snapshot> {
        UsageFile::open(&self.usage(), "Fuzz").unwrap().1.snapshot
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_are_read_or_set_aside_as_their_names_say() {
    let folder = Folder::new("corpus");
    for sample in corpus(DECODER) {
        let (file, restored) = folder.open(&sample.bytes);
        let (verdict, _) = sample.name.split_once('-').unwrap();
        if verdict == "valid" {
            assert_eq!(restored.set_aside, None, "{}", sample.name);
            file.save(&restored.snapshot.unwrap()).unwrap();
            assert_eq!(fs::read(folder.usage()).unwrap(), sample.bytes, "{}", sample.name);
        } else {
            assert_eq!(restored.snapshot, None, "{}", sample.name);
            assert_eq!(restored.set_aside.unwrap().why.as_str(), verdict, "{}", sample.name);
        }
    }
}

#[test]
fn damaged_files_are_set_aside_whole_within_their_size() {
    let folder = Folder::new("damage");
    let corpus = corpus(DECODER);
    let is_known = |contents: &[u8]| corpus.iter().any(|sample| sample.bytes == contents);
    fuzz(DECODER, &corpus, |rng, sample, other| {
        let is_sealed = rng.bool();
        let contents = if is_sealed {
            sealed(&mutated(body(sample), body(other), rng))
        } else {
            mutated(sample, other, rng)
        };
        let ((file, restored), took) = peak(|| folder.open(&contents));
        let allowed = ALLOWED_FACTOR * contents.len() + ALLOWED_BYTES;
        assert!(took <= allowed, "{took} bytes for {}", contents.len());
        match (restored.snapshot, restored.set_aside) {
            (Some(snapshot), None) => {
                assert!(is_sealed || is_known(&contents), "damage was not noticed");
                assert_eq!(fs::read(folder.usage()).unwrap(), contents);
                goes_on(&folder, file, snapshot, rng);
            }
            (None, Some(set_aside)) => {
                assert_eq!(fs::read(&set_aside.path).unwrap(), contents);
                fs::remove_file(set_aside.path).unwrap();
                goes_on(&folder, file, Snapshot::default(), rng);
            }
            found => panic!("{found:?}"),
        }
    });
}

/// What was restored can be counted on, saved and restored again.
fn goes_on(folder: &Folder, file: UsageFile, restored: Snapshot, rng: &mut Rng) {
    let usage = Usage::new(rng.usize(1..100));
    usage.restore(restored);
    usage.report(10);
    let snapshot = usage.snapshot();
    file.save(&snapshot).unwrap();
    drop(file);
    assert_eq!(folder.reopen(), Some(snapshot));
}

/// What follows the header.
fn body(file: &[u8]) -> &[u8] {
    let end = file.iter().position(|&byte| byte == b'\n');
    end.map_or(file, |end| &file[end + 1..])
}

/// A file with a header that is right, else the checksum would hide the body from all damage.
fn sealed(body: &[u8]) -> Vec<u8> {
    let (length, checksum) = (body.len(), crc32fast::hash(body));
    let header = format!("dspex_telemetry usage version=1 length={length} crc32={checksum:08x}\n");
    [header.as_bytes(), body].concat()
}
