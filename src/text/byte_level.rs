//! The byte-level alphabet: GPT-2's bijection between the 256 bytes and 256 printable characters.
//!
//! Byte-level BPE writes its tokens in this alphabet (a space is `Ġ`), so that every token is a string even where its
//! bytes are not valid UTF-8. Printable Latin-1 stands for itself; the other bytes are numbered from U+0100 on.

/// The bytes that a token written in the byte-level alphabet stands for; `None` if a character is not of it.
pub(crate) fn to_bytes(token: &str) -> Option<Vec<u8>> {
    token.chars().map(to_byte).collect()
}

/// The byte of one character of the alphabet.
fn to_byte(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => u8::try_from(code).ok(),
        code @ 0x100..=0x120 => u8::try_from(code - 0x100).ok(), // 0x00..=0x20
        code @ 0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(), // 0x7f..=0xa0
        0x143 => Some(0xad),
        _ => None,
    }
}

/// Whether a byte can occur in valid UTF-8 at all; 13 of the 256 cannot.
pub(crate) fn may_occur_in_utf8(byte: u8) -> bool {
    !matches!(byte, 0xc0 | 0xc1 | 0xf5..=0xff)
}

#[cfg(test)]
mod tests {
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;

    #[test]
    fn the_alphabet_is_that_of_byte_level_bpe() {
        let mut bytes: Vec<u8> = ByteLevel::alphabet().into_iter().filter_map(to_byte).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(to_bytes("Ġdef"), Some(b" def".to_vec()));
        assert_eq!(to_bytes("Ċ"), Some(b"\n".to_vec()));
        assert_eq!(to_bytes("Ã©"), Some("é".as_bytes().to_vec()));
        assert_eq!(to_bytes("<｜end"), None);
    }
}
