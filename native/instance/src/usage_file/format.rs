//! What a usage file contains: a line that describes what follows, then the snapshot as JSON.

use std::io::{self, Read};

use super::Flaw;
use crate::usage::Snapshot;

const MAGIC: &str = "dspex_telemetry usage";
const VERSION: u32 = 1;
/// No header is longer.
const HEADER_LIMIT: usize = 96;

/// No file is longer: some four million names.
const LENGTH_LIMIT: u64 = 512 << 20;

/// Why a file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// What is wrong with it.
    pub why: Flaw,
    /// Whether it begins as all usage files do.
    pub is_ours: bool,
}

/// The contents of a file with this snapshot.
pub fn encode(snapshot: &Snapshot) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(snapshot)?;
    if (HEADER_LIMIT + body.len()) as u64 > LENGTH_LIMIT {
        let message = format!("its names take {} bytes, at most {LENGTH_LIMIT} fit", body.len());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    let header = Header { length: body.len() as u64, checksum: crc32fast::hash(&body) };
    let mut file = header.line().into_bytes();
    file.extend(body);
    Ok(file)
}

/// Reads a file of a length, and no more of it than its header promises. Nothing but the header is
/// read if the two do not agree.
pub fn read(mut file: impl Read, length: u64) -> io::Result<Result<Snapshot, Unreadable>> {
    let mut start = Vec::with_capacity(HEADER_LIMIT);
    file.by_ref().take(HEADER_LIMIT as u64).read_to_end(&mut start)?;
    let is_ours = start.starts_with(MAGIC.as_bytes());
    let unreadable = |why| Ok(Err(Unreadable { why, is_ours }));
    let (header, mut body) = match Header::parse(&start) {
        Ok((header, rest)) => (header, rest.to_vec()),
        Err(why) => return unreadable(why),
    };
    let promised = header.line().len() as u64 + header.length.min(LENGTH_LIMIT);
    if length < promised {
        return unreadable(Flaw::Truncated);
    }
    if length > promised {
        return unreadable(Flaw::Damaged);
    }
    // One byte more tells that the file is longer than it should be.
    let missing = header.length.saturating_sub(body.len() as u64).saturating_add(1);
    file.take(missing).read_to_end(&mut body)?;
    header.decode(&body).map_or_else(unreadable, |snapshot| Ok(Ok(snapshot)))
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
    use telemetry_common::space_saving::{Entry, Kept};

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
        read(file, file.len() as u64).unwrap().map_err(|unreadable| unreadable.why)
    }

    /// What a file is that claims a length, and never ends.
    fn judge_endless(start: &str, length: u64) -> Flaw {
        let endless = io::Cursor::new(start).chain(io::repeat(b' '));
        read(endless, length).unwrap().unwrap_err().why
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
        assert_eq!(judge_endless(MAGIC, 1_000), Flaw::Damaged);
    }

    #[test]
    fn no_more_is_read_than_the_header_promises() {
        let header = Header { length: 1_000, checksum: 0 }.line();
        assert_eq!(judge_endless(&header, header.len() as u64 + 1_000), Flaw::Damaged);
    }

    /// Reads a header, and panics when it is asked for more than what may come with it.
    struct OnlyHeader(io::Cursor<Vec<u8>>);

    impl Read for OnlyHeader {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let position = self.0.position();
            assert!(position < HEADER_LIMIT as u64, "asked for byte {position}");
            self.0.read(into)
        }
    }

    #[test]
    fn a_header_that_lies_about_the_length_is_not_believed() {
        const GIB: u64 = 1 << 30;
        let cases = [
            (1_000, 2_000, Flaw::Damaged),
            (2_000, 1_000, Flaw::Truncated),
            (3 * GIB, 1_000, Flaw::Truncated),
            (1_000, 3 * GIB, Flaw::Damaged),
            (u64::MAX, u64::MAX, Flaw::Damaged),
            // It does not lie, but no usage file is that long.
            (3 * GIB, 3 * GIB, Flaw::Damaged),
            (LENGTH_LIMIT + 1, LENGTH_LIMIT + 1, Flaw::Damaged),
        ];
        for (promised, body, why) in cases {
            let line = Header { length: promised, checksum: 0 }.line();
            let length = (line.len() as u64).saturating_add(body);
            let mut contents = line.into_bytes();
            contents.resize(HEADER_LIMIT, b' ');
            let file = OnlyHeader(io::Cursor::new(contents));
            let unreadable = read(file, length).unwrap().unwrap_err();
            assert_eq!(unreadable, Unreadable { why, is_ours: true }, "{promised} of {body}");
        }
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
