//! Damage to bytes, by a seed that says all of it.

use fastrand::Rng;

/// Lengths that a decoder must not believe: big-endian, as varints, and in decimals.
const LENGTHS: [&[u8]; 8] = [
    &[0xff; 4],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0x80; 12],
    b"18446744073709551615",
    b"4294967296",
    b"-1",
];

/// The longest piece that is cut, copied or inserted.
const PIECE: usize = 64;

/// One to eight changes. Pieces of `other` may come in.
pub fn mutated(bytes: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.usize(1..=8) {
        change(&mut bytes, other, rng);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let at = rng.usize(..=bytes.len());
    let end = at + rng.usize(..=PIECE.min(bytes.len() - at));
    match rng.u8(..8) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.u8(..8);
            }
        }
        1 => bytes.truncate(at),
        2 => drop(bytes.drain(at..end)),
        3 => {
            let piece = bytes[at..end].to_vec();
            let to = rng.usize(..=bytes.len());
            bytes.splice(to..to, piece);
        }
        4 => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[rng.usize(..=other.len())..]);
        }
        5 => {
            let noise: Vec<u8> = (0..rng.usize(..=PIECE)).map(|_| rng.u8(..)).collect();
            bytes.splice(at..end, noise);
        }
        6 => {
            let length = LENGTHS[rng.usize(..LENGTHS.len())];
            // In the place of as many bytes, or of one.
            let end = bytes.len().min(at + if rng.bool() { length.len() } else { 1 });
            bytes.splice(at..end, length.iter().copied());
        }
        _ => replace_number(bytes, at, rng),
    }
}

/// Puts an impossible number into the place of one that stands in decimals, as in JSON.
fn replace_number(bytes: &mut Vec<u8>, from: usize, rng: &mut Rng) {
    let Some(start) = bytes[from..].iter().position(u8::is_ascii_digit) else { return };
    let start = from + start;
    let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let numbers: [&[u8]; 6] =
        [b"0", b"-1", b"4294967295", b"18446744073709551615", b"1e300", b"1.5"];
    let number = numbers[rng.usize(..numbers.len())];
    bytes.splice(start..start + digits, number.iter().copied());
}
