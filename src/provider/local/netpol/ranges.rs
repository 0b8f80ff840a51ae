//! Sets of numbers as ordered ranges that do not overlap: IPv4 addresses and ports.

use std::net::Ipv4Addr;

/// Inclusive ranges, in order, without overlap (which nft refuses in its interval sets).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    #[must_use]
    pub fn new(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut sorted: Vec<(u32, u32)> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        sorted.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match merged.last_mut() {
                Some(previous) if first <= previous.1 => previous.1 = previous.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// The addresses of `cidr` without those of `except`; nothing when one of them is not an IPv4 block.
    #[must_use]
    pub fn block(cidr: &str, except: &[String]) -> Self {
        let Some((first, last)) = parse_cidr(cidr) else { return Self::default() };
        let holes: Option<Vec<(u32, u32)>> = except.iter().map(|block| parse_cidr(block)).collect();
        let Some(holes) = holes.map(Self::new) else { return Self::default() };
        let mut left = Vec::new();
        let mut next = Some(first);
        for (hole_first, hole_last) in holes.iter() {
            let Some(start) = next.filter(|start| *start <= last) else { break };
            if hole_last < start {
                continue;
            }
            if hole_first > start {
                left.push((start, last.min(hole_first - 1)));
            }
            next = hole_last.checked_add(1);
        }
        if let Some(start) = next {
            left.push((start, last));
        }
        Self::new(left)
    }

    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&number))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether every range is one number.
    #[must_use]
    pub fn is_points(&self) -> bool {
        self.0.iter().all(|(first, last)| first == last)
    }

    #[must_use]
    pub fn is_every_address(&self) -> bool {
        self.0 == [(0, u32::MAX)]
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0.iter().copied()
    }
}

/// The first and last address of an IPv4 block such as `10.1.0.0/16`.
fn parse_cidr(text: &str) -> Option<(u32, u32)> {
    let (address, length) = text.split_once('/')?;
    let address = u32::from(address.parse::<Ipv4Addr>().ok()?);
    let length: u32 = length.parse().ok().filter(|length| *length <= 32)?;
    let host = u32::MAX.checked_shr(length).unwrap_or(0);
    Some((address & !host, address | host))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(ranges: &Ranges) -> String {
        let address = |number| Ipv4Addr::from_bits(number).to_string();
        let pairs: Vec<String> =
            ranges.iter().map(|(first, last)| format!("{}-{}", address(first), address(last))).collect();
        pairs.join(" ")
    }

    #[test]
    fn blocks_lose_their_exceptions() {
        let cases: [(&str, &[&str], &str); 11] = [
            ("10.0.0.0/8", &[], "10.0.0.0-10.255.255.255"),
            ("10.0.0.7/30", &[], "10.0.0.4-10.0.0.7"),
            ("10.0.0.1/32", &[], "10.0.0.1-10.0.0.1"),
            ("0.0.0.0/0", &[], "0.0.0.0-255.255.255.255"),
            ("0.0.0.0/0", &["255.0.0.0/8", "0.0.0.0/8"], "1.0.0.0-254.255.255.255"),
            ("10.0.0.0/24", &["10.0.0.0/25"], "10.0.0.128-10.0.0.255"),
            ("10.0.0.0/24", &["10.0.0.0/16"], ""),
            ("10.0.0.0/24", &["10.0.1.0/24", "9.0.0.0/8"], "10.0.0.0-10.0.0.255"),
            ("10.0.0.0/24", &["10.0.0.8/29", "10.0.0.8/32"], "10.0.0.0-10.0.0.7 10.0.0.16-10.0.0.255"),
            ("10.0.0.0/24; drop", &[], ""),
            ("10.0.0.0/24", &["10.0.0.0/255"], ""),
        ];
        for (cidr, except, expected) in cases {
            let except: Vec<String> = except.iter().map(|block| (*block).to_owned()).collect();
            assert_eq!(text(&Ranges::block(cidr, &except)), expected, "{cidr} except {except:?}");
        }
        for odd in ["fd00::/8", "10.0.0.0/33", "10.0.0.0", "/8", "10.0.0/8", "10.0.0.0/-1"] {
            assert!(Ranges::block(odd, &[]).is_empty(), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn an_address_is_in_a_block_unless_excepted(
            base in any::<u32>(), length in 0u32..=32,
            holes in prop::collection::vec((any::<u32>(), 0u32..=32), 0..4), probe in any::<u32>(),
        ) {
            // A probe near the block: its host bits are random, its network bits are the block's or a neighbour's.
            let host = u32::MAX.checked_shr(length).unwrap_or(0);
            let probe = (base & !host) | (probe & (host << 1 | host));
            let covers = |(address, length): (u32, u32), number: u32| {
                let host = u32::MAX.checked_shr(length).unwrap_or(0);
                address & !host == number & !host
            };
            // Holes inside the block, as the API demands.
            let holes: Vec<(u32, u32)> =
                holes.iter().map(|(address, more)| ((base & !host) | (address & host), (*more).max(length))).collect();
            let cidr = |(address, length): (u32, u32)| format!("{}/{length}", Ipv4Addr::from_bits(address));
            let except: Vec<String> = holes.iter().map(|hole| cidr(*hole)).collect();
            let expected = covers((base, length), probe) && !holes.iter().any(|hole| covers(*hole, probe));
            prop_assert_eq!(Ranges::block(&cidr((base, length)), &except).contains(probe), expected);
        }
    }
}
