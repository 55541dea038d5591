//! UTF-8 as the C library reads it.

/// Whether `bytes` are UTF-8 throughout: besides what Unicode has, the C library takes characters
/// of four to six bytes beyond it.
pub(super) fn is_valid(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Err(e) = std::str::from_utf8(rest) {
        rest = &rest[e.valid_up_to()..];
        let (len, least) = match rest[0] {
            0xf4..0xf8 => (4, 0x11_0000),
            0xf8..0xfc => (5, 0x20_0000),
            0xfc..0xfe => (6, 0x400_0000),
            _ => return false,
        };
        let Some(tail) = rest.get(1..len) else { return false };
        let lead = u32::from(rest[0]) & (0x7f >> len);
        let value = tail.iter().fold(lead, |v, &b| v << 6 | u32::from(b & 0x3f));
        if tail.iter().any(|b| b & 0xc0 != 0x80) || value < least {
            return false;
        }
        rest = &rest[len..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn what_the_c_library_takes_is_valid() {
        let good = [&b"abc"[..], b"h\xc3\xa9", b"\xf4\x90\x80\x80x", b"\xfd\xbf\xbf\xbf\xbf\xbf"];
        for valid in good {
            assert!(is_valid(valid), "{valid:x?}");
        }
        let bad = [&b"\xff"[..], b"\xed\xa0\x80", b"\xc0\x80", b"\xf8\x80\x80\x80\x80", b"a\xf4"];
        for invalid in bad {
            assert!(!is_valid(invalid), "{invalid:x?}");
        }
    }
}
