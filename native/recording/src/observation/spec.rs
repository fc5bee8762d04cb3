//! What an event feeds, as a definition declares it.

use serde::Deserialize;

/// The measures that an event feeds.
#[derive(Clone, Debug, Deserialize)]
pub struct ObservationSpec {
    /// The event's name, its segments joined by dots.
    pub event: String,
    /// Measures that share their labels, by labels.
    pub groups: Vec<GroupSpec>,
}

/// Measures of one family.
#[derive(Clone, Debug, Deserialize)]
pub struct GroupSpec {
    /// The family's name.
    pub family: String,
    /// One source for each of its labels.
    pub tags: Vec<TagSource>,
    /// One source for each of its measures.
    pub measures: Vec<MeasuredSpec>,
}

/// A measure that an event feeds.
#[derive(Clone, Debug, Deserialize)]
pub struct MeasuredSpec {
    /// Where its number comes from.
    pub value: ValueSource,
}

/// Where a tag comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TagSource {
    /// The metadata.
    Metadata(Key),
    /// A map among what the caller has computed.
    Computed {
        /// Its place.
        at: usize,
        /// The key in it.
        key: Key,
    },
}

/// Where the number of a measure comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueSource {
    /// It only counts.
    One,
    /// The measurements.
    Measurement(Key),
    /// A place among what the caller has computed.
    Computed(usize),
}

/// A key of a map.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Key {
    /// Its name.
    pub name: String,
    /// A number by which the caller knows the key. Set by whoever starts the instance, see
    /// [`ObservationSpec::keys_mut`].
    pub number: u64,
}

impl From<String> for Key {
    fn from(name: String) -> Self {
        Self { name, number: 0 }
    }
}

impl ObservationSpec {
    /// All keys.
    pub fn keys_mut(&mut self) -> impl Iterator<Item = &mut Key> {
        self.groups.iter_mut().flat_map(|group| {
            let tags = group.tags.iter_mut().map(|tag| match tag {
                TagSource::Metadata(key) | TagSource::Computed { key, .. } => key,
            });
            let values = group.measures.iter_mut().filter_map(|measure| match &mut measure.value {
                ValueSource::Measurement(key) => Some(key),
                ValueSource::One | ValueSource::Computed(_) => None,
            });
            tags.chain(values)
        })
    }
}
