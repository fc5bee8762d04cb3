//! Decoders of foreign bytes, given damaged ones.
//!
//! Each test takes the files of its folder in `tests/corpus`, damages them in ways that a seed says, and goes on for
//! `FUZZ_SECONDS`, 2 by default. Whoever fails prints the seed of the case; with `FUZZ_SEED` set to it, that case is
//! the first.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a failed test")]

mod memory;
mod mutation;
mod otlp_answer;
mod snapshot;
mod usage_file;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fastrand::Rng;

/// A file of a corpus.
pub struct Sample {
    pub name: String,
    pub bytes: Vec<u8>,
}

fn folder(decoder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(decoder)
}

/// The files of a decoder's corpus, by name.
fn corpus(decoder: &str) -> Vec<Sample> {
    let read = |entry: fs::DirEntry| Sample {
        name: entry.file_name().into_string().unwrap(),
        bytes: fs::read(entry.path()).unwrap(),
    };
    let entries = fs::read_dir(folder(decoder)).unwrap();
    let mut samples: Vec<_> = entries.map(|entry| read(entry.unwrap())).collect();
    samples.sort_by(|left, right| left.name.cmp(&right.name));
    samples
}

/// Tries one case after another until the time is over. A case is given a generator of random numbers, and the sample
/// that it may damage with another from which pieces may come.
fn fuzz(decoder: &str, corpus: &[Sample], mut case: impl FnMut(&mut Rng, &[u8], &[u8])) {
    let seconds = env::var("FUZZ_SECONDS").map_or(2, |seconds| seconds.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let first = env::var("FUZZ_SEED").map_or(now, |seed| seed.parse().unwrap());
    let mut cases = 0_u64;
    while Instant::now() < end {
        let seed = Seed { decoder, seed: first.wrapping_add(cases) };
        let mut rng = Rng::with_seed(seed.seed);
        let sample = &corpus[rng.usize(..corpus.len())];
        let other = &corpus[rng.usize(..corpus.len())];
        case(&mut rng, &sample.bytes, &other.bytes);
        cases += 1;
    }
    println!("{decoder}: {cases} cases from seed {first}");
}

/// Says which case it was if that panics.
struct Seed<'a> {
    decoder: &'a str,
    seed: u64,
}

impl Drop for Seed<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} fails; FUZZ_SEED={} tries this case first", self.decoder, self.seed);
        }
    }
}
