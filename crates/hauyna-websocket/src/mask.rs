//! Masking (RFC 6455 §5.3): the XOR of a payload with its four-byte key, in place. It works on fixed-size
//! chunks, so that the compiler uses vector instructions.

/// XORs `data` with `key`, starting at the key's first byte.
pub(crate) fn apply_mask(data: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (blocks, tail) = data.as_chunks_mut::<32>();
    for block in blocks {
        for part in block.as_chunks_mut::<8>().0 {
            *part = (u64::from_ne_bytes(*part) ^ word).to_ne_bytes();
        }
    }
    let (words, tail) = tail.as_chunks_mut::<8>();
    for part in words {
        *part = (u64::from_ne_bytes(*part) ^ word).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(word.to_ne_bytes()) {
        *byte ^= key;
    }
}

/// Returns the key for the payload after its first `done` bytes.
pub(crate) fn advance_mask(mut key: [u8; 4], done: usize) -> [u8; 4] {
    key.rotate_left(done % 4);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_equals_the_definition_at_every_length_and_split() {
        let key = [0x11, 0x22, 0x44, 0x88];
        for length in 0..100 {
            let plain: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let expected: Vec<u8> = plain.iter().enumerate().map(|(n, byte)| byte ^ key[n % 4]).collect();
            for split in 0..=length {
                let mut data = plain.clone();
                let (first, second) = data.split_at_mut(split);
                apply_mask(first, key);
                apply_mask(second, advance_mask(key, split));
                assert_eq!(data, expected, "length {length} split {split}");
            }
        }
    }
}
