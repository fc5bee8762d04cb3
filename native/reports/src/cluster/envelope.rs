//! What stands around the payload of a snapshot: whose it is, which version, and whether it is
//! compressed.
//!
//! ```text
//! magic  4 bytes, "DSPX"
//! format 2 bytes, most significant first
//! packed 1 byte, 0 as it is, 1 with zlib
//! length 4 bytes, of the payload before it was compressed
//! the payload
//! ```

use std::borrow::Cow;
use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use super::FORMAT;
use super::node::{Refusal, State};

const MAGIC: &[u8; 4] = b"DSPX";
const HEADER_BYTES: usize = MAGIC.len() + 2 + 1 + 4;
const PLAIN: u8 = 0;
const DEFLATED: u8 = 1;
/// Below, compressing saves nothing worth its time.
const WORTH_DEFLATING: usize = 1_024;

/// Packs a payload of at most 4 GiB, compressed if that makes it shorter.
pub(super) fn seal(payload: &[u8]) -> Vec<u8> {
    let sealed = |packed, body: &[u8]| {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_be_bytes());
        bytes.push(packed);
        bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    };
    match deflated(payload) {
        Some(body) => sealed(DEFLATED, &body),
        None => sealed(PLAIN, payload),
    }
}

fn deflated(payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() < WORTH_DEFLATING {
        return None;
    }
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(payload.len() / 2), Compression::fast());
    // Writing to memory does not fail; should it ever, the payload goes as it is.
    encoder.write_all(payload).ok()?;
    encoder.finish().ok().filter(|body| body.len() < payload.len())
}

/// The payload, of at most `limit` bytes: no more than that is ever unpacked.
pub(super) fn open(bytes: &[u8], limit: usize) -> Result<Cow<'_, [u8]>, Refusal> {
    let no_snapshot = || Refusal::corrupt("what came is no snapshot");
    let (magic, rest) = bytes.split_first_chunk().ok_or_else(no_snapshot)?;
    let (format, rest) = rest.split_first_chunk().ok_or_else(no_snapshot)?;
    if magic != MAGIC {
        return Err(no_snapshot());
    }
    let format = u16::from_be_bytes(*format);
    if format != FORMAT {
        return Err(Refusal {
            state: State::OtherVersion,
            reason: format!(
                "it sends snapshots of format {format}, here format {FORMAT} is read: let both run \
                 the same version of dspex_telemetry"
            ),
        });
    }
    let (&[packed], rest) = rest.split_first_chunk().ok_or_else(no_snapshot)?;
    let (length, body) = rest.split_first_chunk().ok_or_else(no_snapshot)?;
    let length = u32::from_be_bytes(*length) as usize;
    if length > limit {
        return Err(Refusal::too_large(length, limit));
    }
    let payload = match packed {
        PLAIN => Cow::Borrowed(body),
        DEFLATED => {
            let mut payload = Vec::new();
            let unpacked = ZlibDecoder::new(body).take(length as u64 + 1).read_to_end(&mut payload);
            unpacked.map_err(|_| Refusal::corrupt("its snapshot cannot be uncompressed"))?;
            Cow::Owned(payload)
        }
        _ => return Err(no_snapshot()),
    };
    if payload.len() != length {
        return Err(Refusal::corrupt("its snapshot is not as long as it says"));
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens() {
        for payload in [vec![], b"short".to_vec(), vec![7; 100_000], (0..=255).collect()] {
            let sealed = seal(&payload);
            assert_eq!(open(&sealed, payload.len()).expect("its own"), payload);
            let refused = open(&sealed, payload.len().saturating_sub(1));
            assert_eq!(refused.is_err(), !payload.is_empty());
        }
        assert!(seal(&[7; 100_000]).len() < 1_000);
    }

    #[test]
    fn no_more_is_unpacked_than_was_announced() {
        let mut sealed = seal(&vec![0; 10 << 20]);
        sealed[7..11].copy_from_slice(&1_000_u32.to_be_bytes());
        let refused = open(&sealed, 1 << 20).expect_err("longer than it says");
        assert_eq!(refused.state, State::Corrupt);
    }

    #[test]
    fn another_format_is_named() {
        let mut sealed = seal(b"payload");
        sealed[5] = 9;
        let refused = open(&sealed, 100).expect_err("format 9");
        assert_eq!(refused.state, State::OtherVersion);
        assert!(refused.reason.contains("format 9"), "{}", refused.reason);
    }
}
