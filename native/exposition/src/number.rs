//! Numbers as text.

use std::io::Write;

/// Appends an integer.
#[inline]
pub(crate) fn integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a number as Go prints it by `%g`: the shortest text that reads back the same, with an
/// exponent from a million on. Buckets are told apart by the text of their bound, and this one is
/// what other exporters, and Prometheus itself, make of it.
pub(crate) fn go(value: f64, out: &mut Vec<u8>) {
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // Writing to a vector does not fail.
    let _ = if value == 0.0 || (-4..6).contains(&exponent) {
        write!(out, "{value}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{mantissa}e{sign}{:02}", exponent.abs())
    };
}

/// Appends a number of thousandths, without zeros at the end.
pub(crate) fn thousandths(value: u64, out: &mut Vec<u8>) {
    integer(value / 1_000, out);
    let rest = value % 1_000;
    let digits =
        [b'.', b'0' + (rest / 100) as u8, b'0' + (rest / 10 % 10) as u8, b'0' + (rest % 10) as u8];
    let length = digits.iter().rposition(|digit| !matches!(digit, b'0' | b'.'));
    out.extend_from_slice(&digits[..length.map_or(0, |last| last + 1)]);
}

/// Appends milliseconds as seconds.
pub(crate) fn seconds(ms: i64, out: &mut Vec<u8>) {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    let _ = write!(out, "{sign}{}.{:03}", ms / 1_000, ms % 1_000);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(print: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        print(&mut out);
        String::from_utf8(out).expect("numbers are ASCII")
    }

    /// The right sides are what Go's `strconv.FormatFloat(x, 'g', -1, 64)` returns.
    #[test]
    fn floats_look_as_in_go() {
        for (value, expected) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (500.0, "500"),
            (100_000.0, "100000"),
            (999_999.5, "999999.5"),
            (1_000_000.0, "1e+06"),
            (2_500_000.0, "2.5e+06"),
            (1_234_567.25, "1.23456725e+06"),
            (1e21, "1e+21"),
            (1e100, "1e+100"),
            (-12.5, "-12.5"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(printed(|out| go(value, out)), expected);
        }
    }

    #[test]
    fn thousandths_are_exact() {
        for (value, expected) in [
            (0, "0"),
            (1, "0.001"),
            (10, "0.01"),
            (1_000, "1"),
            (12_340, "12.34"),
            (10_050, "10.05"),
            (u64::MAX, "18446744073709551.615"),
        ] {
            assert_eq!(printed(|out| thousandths(value, out)), expected);
        }
    }

    #[test]
    fn times_keep_their_milliseconds() {
        assert_eq!(printed(|out| seconds(1_795_516_000_042, out)), "1795516000.042");
        assert_eq!(printed(|out| seconds(-1_500, out)), "-1.500");
    }
}
