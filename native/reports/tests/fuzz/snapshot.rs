use std::fs;
use std::io::Read;

use fastrand::Rng;
use serde_json::json;
use telemetry_recording::measure::Number;
use telemetry_recording::observation::{Given, Tag};
use telemetry_reports::cluster::merge::{Answer, Limits, Merged};
use telemetry_reports::cluster::node::State;
use telemetry_reports::cluster::report::{ClusterErrors, ClusterReport, usage};
use telemetry_reports::cluster::snapshot;
use telemetry_windows::window::Window;

use crate::memory::peak;
use crate::mutation::mutated;
use crate::{corpus, folder, fuzz};
use telemetry_testing::measured::{distribution, measure, send, start_with};
use telemetry_testing::{Calls, NOW};

const DECODER: &str = "snapshot";
const FAMILY: &str = "calls";
const LIMITS: Limits = Limits { series: 1_000, bytes: 256 << 10 };
/// What is damaged by chance takes some 90 KiB. The bounds for what is made up on purpose are in `tests/cluster.rs`.
const ALLOWED_BYTES: usize = 2 << 20;
/// Magic, format, whether it is compressed, and the length of the payload.
const ENVELOPE: usize = 11;

/// Series and events of each sample.
const SAMPLES: [(&str, u64, u64); 3] = [("empty", 0, 0), ("few", 2, 5), ("many", 60, 600)];
/// One with metrics of other definitions.
const DEFINED: &str = "defined";

fn merge(snapshots: &[&[u8]]) -> Merged {
    let answers = snapshots.iter().enumerate();
    let answers = answers.map(|(at, bytes)| (format!("n{at}"), Answer::Snapshot(bytes)));
    Merged::new(answers, LIMITS, NOW)
}

/// Written anew when the format has changed.
#[test]
#[ignore = "writes the corpus"]
fn write_samples() {
    for (name, series, events) in SAMPLES {
        let calls = Calls::default().start();
        for event in 0..events {
            calls.call(&format!("method {}", event % series), event * 7_919);
        }
        let limits = snapshot::Limits { series: LIMITS.series, bytes: LIMITS.bytes };
        let snapshot = snapshot::take(&calls.instance, Window::SinceStart, NOW, limits).unwrap();
        fs::write(folder(DECODER).join(name), snapshot).unwrap();
    }
    let kinds = [
        json!("counter"),
        json!({"sum": {"monotonic": true}}),
        distribution(&[-0.5, 1.0]),
        json!({"summary": {"fraction_bits": 16}}),
    ];
    let measures = kinds.into_iter().map(|kind| measure("m", kind)).collect();
    let defined = start_with(&["t"], measures);
    for at in 0..50 {
        let number = Given::Number(Number::Float(f64::from(at) - 10.5));
        send(&defined, number, Tag::Text(&[b'a' + at as u8 % 5]), false);
    }
    let limits = snapshot::Limits { series: LIMITS.series, bytes: LIMITS.bytes };
    let snapshot = snapshot::take(&defined.instance, Window::SinceStart, NOW, limits).unwrap();
    fs::write(folder(DECODER).join(DEFINED), snapshot).unwrap();
}

#[test]
fn snapshots_are_merged_as_they_were_counted() {
    let corpus = corpus(DECODER);
    assert_eq!(corpus.len(), SAMPLES.len() + 1);
    for (name, series, events) in SAMPLES {
        let sample = corpus.iter().find(|sample| sample.name == name).unwrap();
        let merged = merge(&[&sample.bytes, &sample.bytes]);
        for node in merged.nodes() {
            assert_eq!((node.state, node.series), (State::Merged, series), "{name}: {node:?}");
        }
        assert_eq!(counted(&merged), 2 * events, "{name}");
    }
    let sample = corpus.iter().find(|sample| sample.name == DEFINED).unwrap();
    let report = ClusterReport::new(&merge(&[&sample.bytes, &sample.bytes])).report;
    let rows = report.summaries.iter().map(|row| (&*row.labels["t"], row.count));
    assert_eq!(rows.collect::<Vec<_>>(), ["a", "b", "c", "d", "e"].map(|tag| (tag, 20)));
}

#[test]
fn damaged_snapshots_are_merged_wholly_or_not_at_all_within_their_limits() {
    let corpus = corpus(DECODER);
    let good = &corpus.iter().find(|sample| sample.name == "few").unwrap().bytes;
    let before = counted(&merge(&[good]));
    fuzz(DECODER, &corpus, |rng, sample, other| {
        let damaged = damaged(sample, other, rng);
        let (merged, took) = peak(|| merge(&[good, &damaged]));
        assert!(took <= ALLOWED_BYTES, "{took} bytes for {}", damaged.len());
        let [first, second] = merged.nodes() else { panic!("{:?}", merged.nodes()) };
        assert_eq!(first.state, State::Merged);
        if second.state != State::Merged {
            assert!(second.reason.is_some(), "{second:?}");
            assert_eq!(counted(&merged), before);
        } else {
            assert!(counted(&merged) >= before);
        }
        ClusterReport::new(&merged).to_json().unwrap();
        ClusterErrors::new(&merged);
        usage(&merged, 3);
    });
}

/// The calls of all series.
fn counted(merged: &Merged) -> u64 {
    merged.points(FAMILY).iter().map(|(_, point)| point.sample_count(0)).sum()
}

/// Damage to the envelope, below the compression, to the head, whose length is right again, or to what follows it.
fn damaged(sample: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
    let choice = rng.u8(..4);
    if choice == 0 {
        return mutated(sample, other, rng);
    }
    let (sample, other) = (payload(sample), payload(other));
    if choice == 1 {
        return sealed(&mutated(&sample, &other, rng));
    }
    let ((head, sections), (other_head, other_sections)) = (parts(&sample), parts(&other));
    if choice == 2 {
        sealed(&joined(&mutated(head, other_head, rng), sections))
    } else {
        sealed(&joined(head, &mutated(sections, other_sections, rng)))
    }
}

fn joined(head: &[u8], sections: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut length = head.len();
    while length >= 0x80 {
        payload.push(length as u8 | 0x80);
        length >>= 7;
    }
    payload.push(length as u8);
    [&payload, head, sections].concat()
}

/// The head and what follows it. The head's length stands before it, as a varint.
fn parts(payload: &[u8]) -> (&[u8], &[u8]) {
    let digits = payload.iter().take_while(|byte| **byte >= 0x80).count() + 1;
    let length = payload[..digits].iter().rev();
    let length = length.fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
    payload[digits..].split_at(length)
}

fn payload(snapshot: &[u8]) -> Vec<u8> {
    let (envelope, body) = snapshot.split_at(ENVELOPE);
    if envelope[6] == 0 {
        return body.to_vec();
    }
    let mut payload = Vec::new();
    flate2::read::ZlibDecoder::new(body).read_to_end(&mut payload).unwrap();
    payload
}

fn sealed(payload: &[u8]) -> Vec<u8> {
    [b"DSPX\0\x01\0", &(payload.len() as u32).to_be_bytes()[..], payload].concat()
}
