//! Label values are short and valid, whatever comes in.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::borrow::Cow;

use proptest::collection::vec;
use proptest::prelude::*;
use telemetry_common::label::{MAX_LABEL_BYTES, normalise};
use telemetry_testing::cases;

/// The longest character, less one byte: what a cut on a character boundary may waste.
const MOST_WASTED: usize = 3;

/// Pieces of text and of what only looks like it, long enough together to be cut anywhere.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let character = any::<char>().prop_map(|character| character.to_string().into_bytes());
    let beheaded =
        any::<char>().prop_map(|character| character.to_string().into_bytes()[1..].into());
    let unfinished = any::<char>().prop_map(|character| {
        let mut bytes = character.to_string().into_bytes();
        bytes.pop();
        bytes
    });
    let stray = vec(0x80..=0xBF_u8, 1..6);
    let plain = "[a-z]{1,8}".prop_map(String::into_bytes);
    let piece = prop_oneof![4 => character, 1 => beheaded, 1 => unfinished, 1 => stray, 2 => plain];
    let pieces = (0..260_usize, vec(piece, 0..120)).prop_map(|(padding, pieces)| {
        let mut bytes = vec![b'a'; padding];
        bytes.extend(pieces.concat());
        bytes
    });
    prop_oneof![3 => pieces, 1 => vec(any::<u8>(), 0..600)]
}

fn text() -> impl Strategy<Value = String> {
    (0..260_usize, vec(any::<char>(), 0..200)).prop_map(|(padding, characters)| {
        let mut text = "a".repeat(padding);
        text.extend(characters);
        text
    })
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn any_bytes_become_a_short_text_that_stays_as_it_is(bytes in bytes()) {
        let normal = normalise(&bytes);
        prop_assert!(normal.len() <= MAX_LABEL_BYTES);
        let again = normalise(normal.as_bytes());
        prop_assert_eq!(&*again, &*normal);
        prop_assert!(matches!(again, Cow::Borrowed(_)), "normal text is copied");
    }

    #[test]
    fn the_text_begins_as_the_bytes_with_what_is_invalid_replaced(bytes in bytes()) {
        let whole = String::from_utf8_lossy(&bytes);
        let normal = normalise(&bytes);
        prop_assert!(whole.starts_with(&*normal), "{:?} begins not with {:?}", whole, normal);
        let is_whole = normal.len() == whole.len();
        prop_assert!(is_whole || normal.len() >= MAX_LABEL_BYTES - MOST_WASTED, "cut too early");
    }

    #[test]
    fn valid_text_is_cut_before_the_first_character_that_does_not_fit(text in text()) {
        let ends = text.char_indices().map(|(at, character)| at + character.len_utf8());
        let end = ends.take_while(|&end| end <= MAX_LABEL_BYTES).last().unwrap_or(0);
        let normal = normalise(text.as_bytes());
        prop_assert_eq!(&*normal, &text[..end]);
        prop_assert!(matches!(normal, Cow::Borrowed(_)), "valid text is copied");
    }
}
