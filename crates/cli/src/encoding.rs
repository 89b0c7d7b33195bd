//! Bytes as text: hex, base64, and strings with escapes.

/// Lowercase hex.
pub fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Base64 of RFC 4648, with padding.
pub fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let word =
            group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= group.len() { digit } else { b'=' });
        }
    }
}

/// Reads `\n`, `\t`, `\r`, `\0`, `\\`, `\xNN` at the start of `text`; gives the byte and the rest.
pub fn escape(text: &str) -> Option<(u8, &str)> {
    let rest = text.strip_prefix('\\')?;
    let letter = rest.chars().next()?;
    let byte = match letter {
        'n' => b'\n',
        't' => b'\t',
        'r' => b'\r',
        '0' => 0,
        '\\' => b'\\',
        'x' => {
            let digits = rest.get(1..3)?;
            return Some((u8::from_str_radix(digits, 16).ok()?, &rest[3..]));
        }
        _ => return None,
    };
    Some((byte, &rest[1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vectors_hold() {
        let encode = |bytes: &[u8], how: fn(&[u8], &mut Vec<u8>)| {
            let mut out = Vec::new();
            how(bytes, &mut out);
            String::from_utf8(out).unwrap()
        };
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(plain.as_bytes(), base64), encoded);
        }
        assert_eq!(encode(&[0, 0xff, 0x10], hex), "00ff10");
        assert_eq!(escape("\\x41b"), Some((b'A', "b")));
        assert_eq!(escape("\\q"), None);
        assert_eq!(escape("\\xé"), None);
    }
}
