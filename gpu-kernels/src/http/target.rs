//! From a request's target to a path below the root.

use super::bytes::Bytes;

/// Longest path, in bytes.
pub const PATH_MAX: usize = 1024;

/// A path below the root: it begins with `/`, and has no empty, `.` or `..` parts.
#[derive(Clone, Copy)]
pub struct Path {
    bytes: [u8; PATH_MAX],
    len: usize,
    /// Whether it ended with `/`, which is not kept: a directory is meant.
    pub is_dir: bool,
}

impl Path {
    /// The path, as it is opened.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, byte: u8) -> Result<(), u16> {
        *self.bytes.get_mut(self.len).ok_or(414u16)? = byte;
        self.len += 1;
        Ok(())
    }

    /// Appends a name.
    ///
    /// # Errors
    /// 414 if it gets too long.
    pub fn join(&mut self, name: &[u8]) -> Result<(), u16> {
        if self.len > 1 {
            self.push(b'/')?;
        }
        name.iter().try_for_each(|byte| self.push(*byte))?;
        self.is_dir = false;
        Ok(())
    }
}

/// The path of a target: percent-decoded, without the query, its dots resolved.
///
/// # Errors
/// 400 for what is no path, or would lead out of the root; 414 if it is too long.
pub fn resolve(target: &Bytes<'_>) -> Result<Path, u16> {
    let mut path = Path { bytes: [0; PATH_MAX], len: 0, is_dir: false };
    let mut at = 0;
    // Where the part that is being read begins: after its `/`.
    let mut part = 0;
    loop {
        let byte = match target.get(at) {
            None | Some(b'?' | b'#') => None,
            Some(b'%') => {
                let digit = |at| target.get(at).and_then(|b| char::from(b).to_digit(16));
                let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2)) else {
                    return Err(400);
                };
                at += 2;
                match (high * 16 + low) as u8 {
                    // A name cannot have these.
                    0 | b'/' => return Err(400),
                    byte => Some((byte, false)),
                }
            }
            // As they are, these stand in no target; encoded, all but NUL may stand in a name.
            Some(0..=b' ' | 127) => return Err(400),
            Some(byte) => Some((byte, byte == b'/')),
        };
        at += 1;
        match byte {
            Some((byte, false)) if path.len > 0 => path.push(byte)?,
            Some((_, false)) => return Err(400),
            other => {
                // A part has ended.
                match &path.bytes[part..path.len] {
                    b"." => path.len = part,
                    b".." => {
                        // Drop it, and the part before it with its `/`.
                        let before = path.bytes[..part.saturating_sub(1)].iter();
                        let slash = before.rev().position(|b| *b == b'/').ok_or(400u16)?;
                        path.len = part - 1 - slash;
                    }
                    _ => {}
                }
                let ends_with_slash = path.len > 0 && path.bytes[path.len - 1] == b'/';
                if other.is_none() {
                    if path.len == 0 {
                        return Err(400);
                    }
                    path.is_dir = ends_with_slash;
                    if ends_with_slash && path.len > 1 {
                        path.len -= 1;
                    }
                    return Ok(path);
                }
                // Empty parts mean nothing.
                if !ends_with_slash {
                    path.push(b'/')?;
                }
                part = path.len;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::{String, ToString};

    fn of(target: &str) -> Result<(String, bool), u16> {
        let path = resolve(&Bytes::new([target.as_bytes(), &[]]))?;
        Ok((core::str::from_utf8(path.as_bytes()).unwrap().to_string(), path.is_dir))
    }

    #[test]
    fn targets_are_paths_below_the_root() {
        for (target, path, is_dir) in [
            ("/", "/", true),
            ("/a", "/a", false),
            ("/a/", "/a", true),
            ("/a?b/../c", "/a", false),
            ("/a//b", "/a/b", false),
            ("/./a/./b/.", "/a/b", true),
            ("/a/../b", "/b", false),
            ("/a/b/..", "/a", true),
            ("/a/..", "/", true),
            ("/%61%20b", "/a b", false),
            ("/a%09%7f", "/a\t\x7f", false),
            ("/a/%2e%2e/b", "/b", false),
            ("/..a/.b/c..", "/..a/.b/c..", false),
            ("/...", "/...", false),
        ] {
            assert_eq!(of(target), Ok((path.to_string(), is_dir)), "{target}");
        }
    }

    #[test]
    fn nothing_leads_out_of_the_root() {
        for target in [
            "/..",
            "/../",
            "/a/../..",
            "/a/../../b",
            "/%2e%2e",
            "/.%2e/x",
            "/./..",
            "//..",
            "/%2f",
            "/a%2fb",
            "/a%00b",
            "/a\0b",
            "/a\tb",
            "/a b",
            "/\x7f",
            "/%",
            "/%4",
            "/%zz",
            "",
            "a",
            "%61",
        ] {
            assert_eq!(of(target), Err(400), "{target}");
        }
        let long: String = core::iter::repeat_n("/aaaaaaaaa", 110).collect();
        assert_eq!(of(&long), Err(414));
    }
}
