//! Sizes as people write them: `100GiB`, `1TB`, plain bytes.

use thiserror::Error;

/// A text that is not a size.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SizeError {
    /// Neither a number nor a number with a known unit.
    #[error("`{0}` is not a size; expected a whole number of bytes, or one with a unit: `100GiB`, `1TB`")]
    Syntax(String),
    /// More than 2^64 - 1 bytes.
    #[error("`{0}` is more than 2^64 - 1 bytes")]
    Overflow(String),
}

/// Units and their bytes: IEC 80000-13 binary prefixes, and the decimal ones that disk makers use.
const UNITS: [(&str, u64); 13] = [
    ("", 1),
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1000 * 1000),
    ("GB", 1000 * 1000 * 1000),
    ("TB", 1000 * 1000 * 1000 * 1000),
    ("PB", 1000 * 1000 * 1000 * 1000 * 1000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("PiB", 1 << 50),
];

/// Parses a size into bytes. One space between number and unit is allowed; units are case-sensitive, because `Mb` is bits.
///
/// # Errors
/// [`SizeError`], with the text.
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let syntax = || SizeError::Syntax(text.to_owned());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Err(syntax());
    }
    let (number, unit) = text.split_at(digits);
    let unit = match unit.strip_prefix(' ') {
        Some("") => return Err(syntax()),
        Some(rest) => rest,
        None => unit,
    };
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(syntax)?;
    let overflow = || SizeError::Overflow(text.to_owned());
    number.parse::<u64>().map_err(|_| overflow())?.checked_mul(*factor).ok_or_else(overflow)
}

/// A size for people, in binary units with one decimal, rounded down: `20.0 GiB`.
#[must_use]
pub fn display(bytes: u64) -> String {
    let unit = UNITS.iter().rev().take(5).find(|(_, factor)| bytes >= *factor);
    unit.map_or_else(
        || format!("{bytes} bytes"),
        |(name, factor)| {
            // The fraction times ten fits u64: it is below 10 PiB.
            format!("{}.{} {name}", bytes / factor, bytes % factor * 10 / factor)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::{SizeError, display, parse};
    use proptest::prelude::{any, proptest};

    #[test]
    fn sizes_people_write() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("100GiB", 100 << 30),
            ("1 TiB", 1 << 40),
            ("1TB", 1_000_000_000_000),
            ("2kB", 2000),
            ("16383PiB", 16383 << 50),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size() {
        for text in ["", "GiB", "-1", "1.5TB", "1gib", "1Gb", "1  GiB", "1 ", " 1", "0x10", "١GiB"] {
            assert_eq!(parse(text), Err(SizeError::Syntax(text.to_owned())), "{text}");
        }
        for text in ["18446744073709551616", "16384PiB", "99999999999999999999TB"] {
            assert_eq!(parse(text), Err(SizeError::Overflow(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!(display(1000), "1000 bytes");
        assert_eq!(display(20 << 30), "20.0 GiB");
        assert_eq!(display((3 << 30) / 2), "1.5 GiB");
        assert_eq!(display((1 << 30) - 1), "1023.9 MiB");
    }

    proptest! {
        #[test]
        fn never_panics(text: String) {
            let _ = parse(&text);
        }

        #[test]
        fn plain_bytes_are_themselves(bytes in any::<u64>()) {
            assert_eq!(parse(&bytes.to_string()), Ok(bytes));
            assert!(!display(bytes).is_empty());
        }
    }
}
