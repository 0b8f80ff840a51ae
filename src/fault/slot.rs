//! Which slot of Redis Cluster a key is in.

/// The slot of a key in Redis Cluster: CRC16 (XMODEM) of the key, or of its `{tag}`, modulo 16384.
#[must_use]
pub fn key_slot(key: &str) -> u16 {
    let tag = key.find('{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.find('}').filter(|length| *length > 0).map(|length| &rest[..length])
    });
    crc16(tag.unwrap_or(key).as_bytes()) % 16384
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |mut crc: u16, byte| {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
        crc
    })
}

#[cfg(test)]
mod tests {
    use super::key_slot;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        // The specification's check value: CRC16("123456789") = 0x31C3.
        for (key, slot) in
            [("123456789", 0x31C3), ("foo", 12182), ("bar", 5061), ("{foo}.x", 12182), ("{}foo", 9500)]
        {
            assert_eq!(key_slot(key), slot, "{key}");
        }
    }
}
