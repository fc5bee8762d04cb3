use telemetry_exposition::otlp::{Accepted, accepted, refused};

use crate::memory::peak;
use crate::mutation::mutated;
use crate::{corpus, fuzz};

const DECODER: &str = "otlp_answer";
/// Beside the text that is returned, which is part of the answer.
const ALLOWED_BYTES: usize = 4_096;

#[test]
fn answers_say_what_they_should() {
    let expected: [(&str, u64, &str); 4] = [
        ("accepted-empty", 0, ""),
        ("accepted-negative", 0, "less than nothing"),
        ("accepted-partial", 17, "17 data points are older than an hour"),
        ("accepted-warning", 0, "use delta temporality"),
    ];
    let samples = corpus(DECODER);
    let bytes = |name: &str| &samples.iter().find(|sample| sample.name == name).unwrap().bytes;
    for (name, rejected_data_points, message) in expected {
        let message = message.to_owned();
        assert_eq!(accepted(bytes(name)), Ok(Accepted { rejected_data_points, message }), "{name}");
    }
    let reason = "the request is larger than 4 MiB".to_owned();
    assert_eq!(refused(bytes("refused-status")), Ok(reason));
}

#[test]
fn damaged_answers_are_read_or_refused_within_their_size() {
    fuzz(DECODER, &corpus(DECODER), |rng, sample, other| {
        let answer = mutated(sample, other, rng);
        let (accepted, took) = peak(|| accepted(&answer));
        assert!(took <= answer.len() + ALLOWED_BYTES, "{took} bytes for {}", answer.len());
        if let Ok(accepted) = accepted {
            assert!(accepted.message.len() <= answer.len());
        }
        let (refused, took) = peak(|| refused(&answer));
        assert!(took <= answer.len() + ALLOWED_BYTES, "{took} bytes for {}", answer.len());
        if let Ok(reason) = refused {
            assert!(reason.len() <= answer.len());
        }
    });
}
