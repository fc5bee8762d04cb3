//! What a usage file contains: a line that describes what follows, then the snapshot as JSON.

use std::io::Read;

use super::Flaw;
use crate::usage::Snapshot;

const MAGIC: &str = "dspex_telemetry usage";
const VERSION: u32 = 1;
/// No header is longer.
const HEADER_LIMIT: usize = 96;

/// The contents of a file with this snapshot.
pub fn encode(snapshot: &Snapshot) -> serde_json::Result<Vec<u8>> {
    let body = serde_json::to_vec(snapshot)?;
    let header = Header { length: body.len() as u64, checksum: crc32fast::hash(&body) };
    let mut file = header.line().into_bytes();
    file.extend(body);
    Ok(file)
}

/// Reads a file, and no more of it than its header promises.
pub fn read(mut file: impl Read) -> std::io::Result<Result<Snapshot, Flaw>> {
    let mut start = Vec::with_capacity(HEADER_LIMIT);
    file.by_ref().take(HEADER_LIMIT as u64).read_to_end(&mut start)?;
    let (header, mut body) = match Header::parse(&start) {
        Ok((header, rest)) => (header, rest.to_vec()),
        Err(flaw) => return Ok(Err(flaw)),
    };
    // One byte more tells that the file is longer than it should be.
    let missing = header.length.saturating_sub(body.len() as u64).saturating_add(1);
    file.take(missing).read_to_end(&mut body)?;
    Ok(header.decode(&body))
}

struct Header {
    length: u64,
    checksum: u32,
}

impl Header {
    fn line(&self) -> String {
        let Self { length, checksum } = self;
        format!("{MAGIC} version={VERSION} length={length} crc32={checksum:08x}\n")
    }

    /// The header and what follows it in `start`, the first [`HEADER_LIMIT`] bytes of a file.
    fn parse(start: &[u8]) -> Result<(Self, &[u8]), Flaw> {
        if MAGIC.as_bytes().starts_with(start) {
            return Err(Flaw::Truncated);
        }
        if !start.starts_with(MAGIC.as_bytes()) {
            return Err(Flaw::Foreign);
        }
        let Some(end) = start.iter().position(|&byte| byte == b'\n') else {
            let cut = start.len() < HEADER_LIMIT;
            return Err(if cut { Flaw::Truncated } else { Flaw::Damaged });
        };
        let (line, rest) = start.split_at(end + 1);
        let line = str::from_utf8(line).map_err(|_| Flaw::Damaged)?;
        if Self::version(line).is_some_and(|version| version > VERSION) {
            return Err(Flaw::Newer);
        }
        let header = Self::fields(line).ok_or(Flaw::Damaged)?;
        // The checksum does not cover the header; that there is one way to write it does.
        if header.line() == line { Ok((header, rest)) } else { Err(Flaw::Damaged) }
    }

    fn version(line: &str) -> Option<u32> {
        field(line, "version")?.parse().ok()
    }

    fn fields(line: &str) -> Option<Self> {
        let length = field(line, "length")?.parse().ok()?;
        let checksum = u32::from_str_radix(field(line, "crc32")?, 16).ok()?;
        Some(Self { length, checksum })
    }

    fn decode(&self, body: &[u8]) -> Result<Snapshot, Flaw> {
        let length = body.len() as u64;
        if length < self.length {
            return Err(Flaw::Truncated);
        }
        if length > self.length || crc32fast::hash(body) != self.checksum {
            return Err(Flaw::Damaged);
        }
        serde_json::from_slice(body).map_err(|_| Flaw::Damaged)
    }
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::space_saving::{Entry, Kept};

    fn snapshot() -> Snapshot {
        let entry = |name: &str, count| Entry {
            name: name.into(),
            count,
            error: 1,
            before: 0,
            first_unix_ms: 1_795_500_000_000,
            last_unix_ms: u64::MAX,
            declared: false,
        };
        let tools = Kept {
            total: u64::MAX,
            floor: 1,
            entries: vec![entry("sür\"ch\n", 3), entry("", u64::MAX)],
        };
        Snapshot { tools, ..Snapshot::default() }
    }

    fn judge(file: &[u8]) -> Result<Snapshot, Flaw> {
        read(file).unwrap()
    }

    #[test]
    fn the_header_is_a_line_that_a_person_can_read() {
        let file = encode(&Snapshot::default()).unwrap();
        let file = str::from_utf8(&file).unwrap();
        let (header, body) = file.split_once('\n').unwrap();
        let checksum = crc32fast::hash(body.as_bytes());
        let length = body.len();
        assert_eq!(
            header,
            format!("dspex_telemetry usage version=1 length={length} crc32={checksum:08x}")
        );
        assert!(body.starts_with("{\"classes\":{\"total\":0,"));
    }

    #[test]
    fn what_is_encoded_is_read() {
        assert_eq!(judge(&encode(&snapshot()).unwrap()), Ok(snapshot()));
    }

    #[test]
    fn every_truncation_is_detected() {
        let file = encode(&snapshot()).unwrap();
        for length in 0..file.len() {
            assert_eq!(judge(&file[..length]), Err(Flaw::Truncated), "cut to {length}");
        }
    }

    #[test]
    fn every_change_of_one_byte_is_detected() {
        let file = encode(&snapshot()).unwrap();
        for at in 0..file.len() {
            for change in 1..=255 {
                let mut file = file.clone();
                file[at] ^= change;
                assert!(judge(&file).is_err(), "byte {at} changed by {change:#x}");
            }
        }
    }

    #[test]
    fn what_is_appended_is_detected() {
        let mut file = encode(&snapshot()).unwrap();
        file.push(b'\n');
        assert_eq!(judge(&file), Err(Flaw::Damaged));
    }

    #[test]
    fn flaws_are_told_apart() {
        let with_header = |header: &str| judge(format!("{header}\n{{}}").as_bytes());
        assert_eq!(judge(b"{\"classes\": {}}"), Err(Flaw::Foreign));
        assert_eq!(judge(&[0; 1_000]), Err(Flaw::Foreign));
        assert_eq!(with_header("dspex_telemetry usage version=2 whatever"), Err(Flaw::Newer));
        for damaged in [
            "dspex_telemetry usage",
            "dspex_telemetry usage version=0 length=2 crc32=e5c38c69",
            "dspex_telemetry usage version=1 length=+2 crc32=e5c38c69",
            "dspex_telemetry usage version=1 length=2 crc32=zzzzzzzz",
        ] {
            assert_eq!(with_header(damaged), Err(Flaw::Damaged), "{damaged}");
        }
        let not_a_snapshot = Header { length: 2, checksum: crc32fast::hash(b"{}") }.line();
        assert_eq!(judge(format!("{not_a_snapshot}{{}}").as_bytes()), Err(Flaw::Damaged));
        let endless = std::io::Cursor::new(MAGIC).chain(std::io::repeat(b' '));
        assert_eq!(read(endless).unwrap(), Err(Flaw::Damaged));
    }

    #[test]
    fn no_more_is_read_than_the_header_promises() {
        let header = Header { length: 1_000, checksum: 0 }.line();
        let endless = std::io::Cursor::new(header).chain(std::io::repeat(b' '));
        assert_eq!(read(endless).unwrap(), Err(Flaw::Damaged));
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn anything_else_is_refused(file in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(judge(&file).is_err());
            let header = format!("{MAGIC} version=1 ").into_bytes();
            prop_assert!(judge(&[header, file].concat()).is_err());
        }
    }
}
