//! Histograms in the encodings that other HdrHistogram implementations read.

use hdrhistogram::serialization::{Serializer, V2DeflateSerializer, V2Serializer};

use crate::series::Series;

/// One histogram in both standard encodings.
pub struct Encoded {
    /// HdrHistogram V2.
    pub v2: Vec<u8>,
    /// HdrHistogram V2, compressed with zlib.
    pub v2_compressed: Vec<u8>,
}

/// Encodes what the family's n-th histogram of a series holds now.
///
/// # Errors
///
/// A sentence of the serializer's, should a count not fit the format.
pub fn encode(series: &Series, index: usize) -> Result<Encoded, String> {
    let snapshot = series.snapshot(index);
    let mut encoded = Encoded { v2: Vec::new(), v2_compressed: Vec::new() };
    V2Serializer::new().serialize(&snapshot, &mut encoded.v2).map_err(|error| error.to_string())?;
    V2DeflateSerializer::new()
        .serialize(&snapshot, &mut encoded.v2_compressed)
        .map_err(|error| error.to_string())?;
    Ok(encoded)
}
