//! Label values: how text from events becomes a bounded, valid key.

use std::borrow::Cow;
use std::sync::Arc;

use crate::heap::HeapBytes;

/// Longest label value in bytes.
pub const MAX_LABEL_BYTES: usize = 256;

/// Most labels that a family may have.
pub const MAX_LABELS: usize = 8;

/// Most tags that metrics with measures may have.
pub const MAX_TAGS: usize = 16;

/// The label that marks the series of everything over the limit, as OpenTelemetry names it.
pub const OVERFLOW_LABEL: &str = "otel_metric_overflow";

/// The value of a label that nothing is known of.
pub const UNKNOWN: &[u8] = b"unknown";

/// Cuts a value at [`MAX_LABEL_BYTES`] on a character boundary and replaces invalid UTF-8 by
/// U+FFFD. Borrows where nothing had to change.
pub fn normalise(value: &[u8]) -> Cow<'_, str> {
    // Cut before checking: the cost does not grow with the length of the value.
    match String::from_utf8_lossy(cut(value)) {
        Cow::Borrowed(text) => Cow::Borrowed(text),
        Cow::Owned(mut text) => {
            // Replacing one byte by three may have made it too long again.
            text.truncate(cut(text.as_bytes()).len());
            Cow::Owned(text)
        }
    }
}

/// Cuts a value at [`MAX_LABEL_BYTES`] on a character boundary, so that whatever is done with it
/// takes no longer than the limit allows. [`normalise`] makes the same of what is cut as of the whole.
#[inline]
pub fn cut(value: &[u8]) -> &[u8] {
    if value.len() <= MAX_LABEL_BYTES { value } else { cut_long(value) }
}

#[cold]
fn cut_long(value: &[u8]) -> &[u8] {
    let is_continuation = |at: usize| value[at] & 0b1100_0000 == 0b1000_0000;
    let mut end = MAX_LABEL_BYTES;
    // A character has at most three continuation bytes; more of them is invalid anyway.
    while end > MAX_LABEL_BYTES - 3 && is_continuation(end) {
        end -= 1;
    }
    if is_continuation(end) {
        end = MAX_LABEL_BYTES;
    }
    &value[..end]
}

/// Whether two slices are equal. Short ones, as nearly all labels are, are
/// compared as two overlapping words rather than by a call of `memcmp`.
#[inline]
pub fn equal(left: &[u8], right: &[u8]) -> bool {
    #[inline]
    fn ends<const WORD: usize>(bytes: &[u8]) -> Option<(&[u8; WORD], &[u8; WORD])> {
        Some((bytes.first_chunk()?, bytes.last_chunk()?))
    }
    match left.len() {
        length if length != right.len() => false,
        0..4 => left.iter().zip(right).all(|(left, right)| left == right),
        4..8 => ends::<4>(left) == ends::<4>(right),
        8..=16 => ends::<8>(left) == ends::<8>(right),
        _ => left == right,
    }
}

/// The label values of a series: each with its length in front, in one allocation that clones share.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelSet(Arc<[u8]>);

const LENGTH_BYTES: usize = 2;

impl LabelSet {
    /// Packs values that were normalised, so that no length exceeds [`MAX_LABEL_BYTES`].
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut packed = Vec::with_capacity(64);
        for value in values {
            packed.extend_from_slice(&(value.len() as u16).to_le_bytes());
            packed.extend_from_slice(value.as_bytes());
        }
        Self(packed.into())
    }

    /// Whether these are exactly the given values, in order.
    pub fn equals(&self, values: &[&[u8]]) -> bool {
        self.equals_each(values.len(), |index| values[index])
    }

    /// Whether these are exactly `count` values, of which `value` gives one at a time.
    #[inline]
    pub fn equals_each<'a>(&self, count: usize, value: impl Fn(usize) -> &'a [u8]) -> bool {
        let mut rest = &*self.0;
        for index in 0..count {
            let value = value(index);
            let Some((length, tail)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
                return false;
            };
            if usize::from(u16::from_le_bytes(*length)) != value.len() || tail.len() < value.len() {
                return false;
            }
            let (head, tail) = tail.split_at(value.len());
            if !equal(head, value) {
                return false;
            }
            rest = tail;
        }
        rest.is_empty()
    }

    /// The values, in order.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (length, tail) = rest.split_first_chunk::<LENGTH_BYTES>()?;
            let (head, tail) = tail.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
            rest = tail;
            str::from_utf8(head).ok()
        })
    }

    /// Bytes allocated by the set and its clones, reference counts included.
    pub fn memory_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_cut_on_a_character_boundary() {
        let value = format!("{}é", "a".repeat(MAX_LABEL_BYTES - 1));
        assert_eq!(normalise(value.as_bytes()), "a".repeat(MAX_LABEL_BYTES - 1));
        let exact = format!("{}é", "a".repeat(MAX_LABEL_BYTES - 2));
        assert_eq!(normalise(exact.as_bytes()), exact);
        let emoji = "🦀".repeat(100);
        assert_eq!(normalise(emoji.as_bytes()), "🦀".repeat(64));
    }

    #[test]
    fn invalid_utf8_is_replaced_and_stays_bounded() {
        assert_eq!(normalise(b"a\xFFb"), "a\u{FFFD}b");
        for byte in [0x80, 0xBF, 0xC3, 0xF0, 0xFF] {
            let normal = normalise(&vec![byte; 10_000]).into_owned();
            assert!(!normal.is_empty() && normal.len() <= MAX_LABEL_BYTES);
        }
    }

    #[test]
    fn what_is_cut_is_short_and_cut_and_normal_as_the_whole_is() {
        let mut values = vec![Vec::new(), vec![b'a'; 256], vec![b'a'; 257], vec![0x80; 300]];
        for text in ["é", "日", "🦀", "\u{FFFD}"] {
            // So that every byte of a character is the last one within the limit.
            values.extend((0..4).map(|shift| {
                let text = format!("{}{}", "a".repeat(shift), text.repeat(300));
                text.into_bytes()
            }));
        }
        values.extend((0..=255).map(|byte| [b"a".repeat(255), vec![byte; 8]].concat()));
        for value in values {
            let short = cut(&value);
            assert!(short.len() <= MAX_LABEL_BYTES);
            assert_eq!(cut(short), short);
            assert_eq!(normalise(short), normalise(&value));
        }
    }

    #[test]
    fn sets_differ_where_the_concatenation_is_equal() {
        let set = LabelSet::new(["ab", "c"]);
        assert!(set.equals(&[b"ab", b"c"]));
        assert!(!set.equals(&[b"a", b"bc"]));
        assert!(!set.equals(&[b"ab"]));
        assert!(!set.equals(&[b"ab", b"c", b""]));
        assert_eq!(set.values().collect::<Vec<_>>(), ["ab", "c"]);
    }

    #[test]
    fn memory_of_labels_is_counted_in_whole_words_with_their_counts() {
        let sets: [&[&str]; 3] = [&[], &["123456"], &["123456", ""]];
        assert_eq!(sets.map(|set| LabelSet::new(set.iter().copied()).memory_bytes()), [16, 24, 32]);
    }
}
