//! Times, shares, sizes and rates as other tools write them.

/// A number that may not be what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounded {
    Exactly(u32),
    Up(u32),
}

impl Rounded {
    pub fn value(self) -> u32 {
        match self {
            Self::Exactly(value) | Self::Up(value) => value,
        }
    }
}

pub const SECONDS: (u128, &str) = (1_000_000_000, "s");
pub const MILLISECONDS: (u128, &str) = (1_000_000, "ms");

/// Go's way to write a time (`1m30s`, `0.5h`), in `unit` nanoseconds, rounded up.
pub fn duration(text: &str, unit: u128) -> Option<Rounded> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut nanoseconds: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (name, next) = after.split_at(letters);
        let scale: u128 = match name {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        nanoseconds = nanoseconds.checked_add(scaled(number, scale)?)?;
        rest = next;
    }
    in_units(nanoseconds, unit)
}

/// A decimal number times a scale; parts of one are rounded up.
fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && part.is_empty()) || part.contains('.') || whole.len() > 18 || part.len() > 18 {
        return None;
    }
    let read = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u128>().ok() };
    let denominator = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let below = read(part)?.checked_mul(scale)?.div_ceil(denominator);
    read(whole)?.checked_mul(scale)?.checked_add(below)
}

fn in_units(value: u128, unit: u128) -> Option<Rounded> {
    let rounded = u32::try_from(value.div_ceil(unit)).ok()?;
    Some(if value.is_multiple_of(unit) { Rounded::Exactly(rounded) } else { Rounded::Up(rounded) })
}

/// `50`, `50.0`, `50%`: whole percent from 1 to 100.
pub fn whole_percent(text: &str) -> Option<u8> {
    let text = text.trim();
    let text = text.strip_suffix('%').unwrap_or(text);
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let percent: u8 = whole.parse().ok().filter(|_| part.bytes().all(|byte| byte == b'0'))?;
    (1..=100).contains(&percent).then_some(percent)
}

/// `0`, `0.0`: a number that is nothing.
pub fn is_zero(text: &str) -> bool {
    text.trim().parse::<f64>() == Ok(0.0)
}

/// A size in MiB, rounded up. What `MB` means depends on who reads it: both times 1024.
pub fn mebibytes(text: &str) -> Option<Rounded> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale: u128 = match unit.trim().to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" | "KIB" => 1 << 10,
        "M" | "MB" | "MIB" => 1 << 20,
        "G" | "GB" | "GIB" => 1 << 30,
        "T" | "TB" | "TIB" => 1 << 40,
        _ => return None,
    };
    in_units(scaled(number, scale)?, 1 << 20)
}

/// A rate as `tc` writes it, in KiB a second, rounded up: `bps` are bytes, `bit` are bits, both times 1000.
pub fn kibibytes_a_second(text: &str) -> Option<Rounded> {
    let text = text.trim().to_ascii_lowercase();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim();
    let (prefix, bits) = match (unit.strip_suffix("bps"), unit.strip_suffix("bit")) {
        (Some(prefix), _) => (prefix, 8),
        (None, Some(prefix)) => (prefix, 1),
        (None, None) => return None,
    };
    let scale: u128 = match prefix {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "t" => 1_000_000_000_000,
        _ => return None,
    };
    in_units(scaled(number, scale * bits)?, 8 * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        use Rounded::{Exactly, Up};
        for (text, expected) in [
            ("30s", Some(Exactly(30))),
            ("5m", Some(Exactly(300))),
            ("1m30s", Some(Exactly(90))),
            ("100ms", Some(Up(1))),
            ("0.5h", Some(Exactly(1800))),
            ("1.5s", Some(Up(2))),
            ("0s", Some(Exactly(0))),
            ("1us", Some(Up(1))),
            (".5m", Some(Exactly(30))),
            ("30", None),
            ("", None),
            ("s", None),
            (".s", None),
            ("-5s", None),
            ("1.2.3s", None),
            ("5 s", None),
            ("5d", None),
            ("99999999999h", None),
            ("9999999999999999999999s", None),
        ] {
            assert_eq!(duration(text, SECONDS.0), expected, "{text}");
        }
        assert_eq!(duration("90ms", MILLISECONDS.0), Some(Exactly(90)));
    }

    #[test]
    fn shares_sizes_and_rates() {
        use Rounded::{Exactly, Up};
        for (text, expected) in [
            ("50", Some(50)),
            ("100.00", Some(100)),
            ("7%", Some(7)),
            ("0", None),
            ("101", None),
            ("12.5", None),
            ("-1", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(whole_percent(text), expected, "{text}");
        }
        for (text, expected) in [
            ("256MB", Some(Exactly(256))),
            ("256 MiB", Some(Exactly(256))),
            ("1GB", Some(Exactly(1024))),
            ("1000", Some(Up(1))),
            ("0.5GiB", Some(Exactly(512))),
            ("50%", None),
            ("MB", None),
            ("1XB", None),
        ] {
            assert_eq!(mebibytes(text), expected, "{text}");
        }
        for (text, expected) in [
            ("1mbps", Some(Up(977))),
            ("8kbit", Some(Up(1))),
            ("1024bps", Some(Exactly(1))),
            ("1mb", None),
            ("mbps", None),
            ("1.5mbps", None),
        ] {
            assert_eq!(kibibytes_a_second(text), expected, "{text}");
        }
        assert!(is_zero("0") && is_zero("0.0") && !is_zero("") && !is_zero("1"));
    }
}
