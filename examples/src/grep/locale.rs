//! The locale's characters, as the C library knows them: grep's classes and case pairs are the C
//! library's, so they are asked there and not taken from a table of our own.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_ulong};

unsafe extern "C" {
    fn wctype_l(name: *const c_char, locale: libc::locale_t) -> c_ulong;
    fn iswctype_l(c: u32, class: c_ulong, locale: libc::locale_t) -> c_int;
    fn towupper_l(c: u32, locale: libc::locale_t) -> u32;
    fn nl_langinfo_l(item: libc::nl_item, locale: libc::locale_t) -> *const c_char;
}

/// How bytes make characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// Each byte is one: the C locale.
    Bytes,
    /// UTF-8.
    Utf8,
}

/// The character type part of a locale.
pub struct Locale {
    /// Null for the C locale.
    handle: libc::locale_t,
    charset: Charset,
}

/// Code points that are assigned or may be: the planes in between are empty.
const SCANNED: [std::ops::Range<u32>; 3] = [0x80..0xd800, 0xe000..0x4_0000, 0xe_0000..0xe_1000];

/// Letters that fold to others but are not folded to, in GNU grep.
const ONE_WAY: std::ops::RangeInclusive<u32> = 0x1c80..=0x1c88;

impl Locale {
    /// The locale that `LC_ALL`, `LC_CTYPE` and `LANG` name; the C locale if there is none such.
    pub fn from_environment() -> Self {
        Self::named("")
    }

    /// A locale by name; the C locale if there is none such.
    pub fn named(name: &str) -> Self {
        let c_locale = Locale { handle: std::ptr::null_mut(), charset: Charset::Bytes };
        let Ok(name) = CString::new(name) else { return c_locale };
        // SAFETY: the name is a C string, and no base locale is given up.
        let handle =
            unsafe { libc::newlocale(libc::LC_CTYPE_MASK, name.as_ptr(), std::ptr::null_mut()) };
        if handle.is_null() {
            return c_locale;
        }
        let locale = Locale { handle, charset: Charset::Utf8 };
        // SAFETY: the handle is valid; the string lives as long as the locale does.
        let codeset = unsafe { CStr::from_ptr(nl_langinfo_l(libc::CODESET, handle)) };
        if codeset.to_bytes() == b"UTF-8" { locale } else { c_locale }
    }

    /// How bytes make characters.
    pub fn charset(&self) -> Charset {
        self.charset
    }

    /// The code points (in the C locale: bytes) of a POSIX class as sorted ranges; `None` if there
    /// is no class of that name.
    pub fn class(&self, name: &str) -> Option<Vec<(u32, u32)>> {
        type Test = fn(&u8) -> bool;
        let ascii: Test = match name {
            "alpha" => u8::is_ascii_alphabetic,
            "upper" => u8::is_ascii_uppercase,
            "lower" => u8::is_ascii_lowercase,
            "digit" => u8::is_ascii_digit,
            "xdigit" => u8::is_ascii_hexdigit,
            "space" => |b| matches!(b, b'\t'..=b'\r' | b' '),
            "punct" => u8::is_ascii_punctuation,
            "alnum" => u8::is_ascii_alphanumeric,
            "print" => |b| matches!(b, b' '..=b'~'),
            "graph" => u8::is_ascii_graphic,
            "cntrl" => u8::is_ascii_control,
            "blank" => |b| matches!(b, b' ' | b'\t'),
            _ => return None,
        };
        let mut ranges = Vec::new();
        let mut push = |c: u32| match ranges.last_mut() {
            Some((_, last)) if *last + 1 == c => *last = c,
            _ => ranges.push((c, c)),
        };
        (0..0x80u8).filter(ascii).for_each(|b| push(b as u32));
        if self.charset == Charset::Utf8 {
            let name = CString::new(name).ok()?;
            // SAFETY: a valid handle and a C string.
            let class = unsafe { wctype_l(name.as_ptr(), self.handle) };
            // SAFETY: the class comes from the same locale; any code point may be asked for.
            let member = |c: &u32| unsafe { iswctype_l(*c, class, self.handle) != 0 };
            SCANNED.into_iter().flatten().filter(member).for_each(push);
        }
        Some(ranges)
    }

    /// The characters that differ in case only, for `-i`.
    pub fn folds(&self) -> Folds {
        let mut variants: HashMap<u32, Vec<u32>> = HashMap::new();
        for c in b'a'..=b'z' {
            let upper = c.to_ascii_uppercase() as u32;
            variants.insert(upper, vec![upper, c as u32]);
        }
        let mut upper_of = HashMap::new();
        if self.charset == Charset::Utf8 {
            for c in SCANNED[..2].iter().cloned().flatten().take_while(|&c| c < 0x2_0000) {
                // SAFETY: a valid handle; any code point may be asked for.
                let upper = unsafe { towupper_l(c, self.handle) };
                if upper != c {
                    upper_of.insert(c, upper);
                    variants.entry(upper).or_insert_with(|| vec![upper]).push(c);
                }
            }
        }
        Folds { variants, upper_of }
    }
}

impl Drop for Locale {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: made by `newlocale`, freed once.
            unsafe { libc::freelocale(self.handle) }
        }
    }
}

/// Which characters differ in case only.
#[derive(Default)]
pub struct Folds {
    /// All characters with the same capital, by that capital.
    variants: HashMap<u32, Vec<u32>>,
    /// Capitals of the others, beyond ASCII.
    upper_of: HashMap<u32, u32>,
}

impl Folds {
    /// `c` and what differs from it in case only.
    pub fn variants(&self, c: u32) -> Vec<u32> {
        let upper = match u8::try_from(c) {
            Ok(b) if b.is_ascii() => b.to_ascii_uppercase() as u32,
            _ => self.upper_of.get(&c).copied().unwrap_or(c),
        };
        match self.variants.get(&upper) {
            None => vec![c],
            Some(all) => all.iter().copied().filter(|v| *v == c || !ONE_WAY.contains(v)).collect(),
        }
    }

    /// Every character that has variants.
    pub fn cased(&self) -> impl Iterator<Item = u32> {
        self.variants.values().flatten().copied()
    }
}
