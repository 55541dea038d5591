//! The compiled form of a search: a header and the sections that it names.
//!
//! ```text
//!   0        Header
//!   8k       needle      bytes of the single literal
//!   8k       set         SetHeader, shift table, buckets, entries, bytes
//!   8k       shape       ShapeHeader, tests
//!   8k       words       WordsHeader, filter, slots, runs, phrases, bytes
//!   8k       dfa         regex-automata's own serialised form
//!   8k       word_chars  which code points belong to words
//! ```
//!
//! Every section starts on a multiple of eight bytes; an absent one has length zero.

use bytemuck::{Pod, Zeroable};
use regex_automata::dfa::dense::DFA;

use super::chars::WordChars;
use super::set::Set;
use super::shape::Shape;
use super::words::Words;

/// First eight bytes of every program.
pub const PROGRAM_MAGIC: [u8; 8] = *b"gpugrep\0";
/// Layout version; a program of another version is refused.
pub const PROGRAM_VERSION: u32 = 2;

/// A byte range of the blob.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Section {
    /// Bytes from the start of the blob, a multiple of eight.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// How lines that may match are found in a block of lines.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// No line matches.
    Nothing = 0,
    /// Every line matches.
    Everything = 1,
    /// Lines with the needle.
    Literal = 2,
    /// Lines with one of several literals, or with one in any ASCII case.
    Set = 3,
    /// Lines in which the DFA finds a match.
    Dfa = 4,
    /// Lines with one of many words, each bounded by non-word characters.
    Words = 5,
    /// Lines equal to one of many strings.
    Whole = 6,
    /// Lines with bytes that a match would have.
    Shape = 7,
}

/// What makes a line that was found a matching line.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Nothing more.
    Hit = 0,
    /// One of the literals stands between non-word characters.
    Word = 1,
    /// One of the literals is the whole line.
    Line = 2,
    /// The DFA finds a match.
    Dfa = 3,
    /// The DFA finds a match that stands between non-word characters.
    DfaWord = 4,
}

/// Properties of a program, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramFlags(pub u32);

impl ProgramFlags {
    /// ASCII letters of literals match both cases.
    pub const FOLD: u32 = 1;
    /// Text is UTF-8; otherwise each byte is a character.
    pub const UTF8: u32 = 2;
    /// The DFA gives up on some lines.
    pub const UNDECIDED: u32 = 4;

    /// Whether all bits of `bits` are set.
    pub fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }
}

/// The first bytes of a program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Header {
    /// [`PROGRAM_MAGIC`].
    pub magic: [u8; 8],
    /// [`PROGRAM_VERSION`].
    pub version: u32,
    /// Length of the whole blob in bytes.
    pub total: u32,
    /// A [`Find`].
    pub find: u32,
    /// An [`Accept`].
    pub accept: u32,
    /// [`ProgramFlags`].
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
    /// The single literal.
    pub needle: Section,
    /// Several literals.
    pub set: Section,
    /// What a match looks like.
    pub shape: Section,
    /// Many words.
    pub words: Section,
    /// The DFA.
    pub dfa: Section,
    /// Word characters beyond ASCII.
    pub word_chars: Section,
    /// Bit `b % 32` of word `b / 32`: byte `b` may start a match that is not empty.
    pub starts: [u32; 8],
}

/// Why a blob is not a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramError {
    /// Shorter than its header, or not aligned to eight bytes.
    Header,
    /// Another magic or version.
    Version,
    /// The length in the header is not the length of the blob.
    Length,
    /// A section lies outside the blob or is not aligned.
    Section,
    /// An unknown [`Find`] or [`Accept`], or one without the section that it needs.
    Kind,
    /// A table inside a section is inconsistent.
    Table,
    /// The DFA was refused by its own reader.
    Dfa,
}

/// A program, checked and with its sections typed.
pub struct Program<'p> {
    /// How candidate lines are found.
    pub find: Find,
    /// How they are confirmed.
    pub accept: Accept,
    /// Properties.
    pub flags: ProgramFlags,
    pub(super) needle: &'p [u8],
    pub(super) set: Option<Set<'p>>,
    pub(super) shape: Option<Shape<'p>>,
    pub(super) words: Option<Words<'p>>,
    pub(super) dfa: Option<DFA<&'p [u32]>>,
    pub(super) word_chars: Option<WordChars<'p>>,
    pub(super) starts: &'p [u32; 8],
}

impl<'p> Program<'p> {
    /// Reads a program and checks all of it, so that no blob whatever makes a search fail.
    pub fn parse(blob: &'p [u8]) -> Result<Self, ProgramError> {
        let (header, mut program) = Self::sections(blob)?;
        if let Some(set) = &program.set {
            set.check()?;
        }
        if let Some(words) = &program.words {
            words.check()?;
        }
        let dfa = section(blob, header.dfa)?;
        if !dfa.is_empty() {
            let (dfa, _) = DFA::from_bytes(dfa).map_err(|_| ProgramError::Dfa)?;
            program.dfa = Some(dfa);
        }
        program.kinds_have_sections()?;
        Ok(program)
    }

    /// Reads a program without walking its tables, in time independent of their size: what each
    /// of thousands of threads does. Lengths and section bounds are still checked.
    ///
    /// # Safety
    ///
    /// [`Program::parse`] must have accepted these very bytes.
    #[inline(never)]
    pub unsafe fn trusted(blob: &'p [u8]) -> Result<Self, ProgramError> {
        let (header, mut program) = Self::sections(blob)?;
        let dfa = section(blob, header.dfa)?;
        if !dfa.is_empty() {
            // SAFETY: the caller vouches that `parse` accepted these bytes, and `parse` runs
            // the checks of `from_bytes` on the same section.
            let (dfa, _) =
                unsafe { DFA::from_bytes_unchecked(dfa) }.map_err(|_| ProgramError::Dfa)?;
            program.dfa = Some(dfa);
        }
        program.kinds_have_sections()?;
        Ok(program)
    }

    fn sections(blob: &'p [u8]) -> Result<(&'p Header, Self), ProgramError> {
        let head = blob.get(..size_of::<Header>()).ok_or(ProgramError::Header)?;
        if !(blob.as_ptr() as usize).is_multiple_of(8) {
            return Err(ProgramError::Header);
        }
        let header: &Header = bytemuck::try_from_bytes(head).map_err(|_| ProgramError::Header)?;
        if header.magic != PROGRAM_MAGIC || header.version != PROGRAM_VERSION {
            return Err(ProgramError::Version);
        }
        if header.total as usize != blob.len() {
            return Err(ProgramError::Length);
        }
        let find = match header.find {
            0 => Find::Nothing,
            1 => Find::Everything,
            2 => Find::Literal,
            3 => Find::Set,
            4 => Find::Dfa,
            5 => Find::Words,
            6 => Find::Whole,
            7 => Find::Shape,
            _ => return Err(ProgramError::Kind),
        };
        let accept = match header.accept {
            0 => Accept::Hit,
            1 => Accept::Word,
            2 => Accept::Line,
            3 => Accept::Dfa,
            4 => Accept::DfaWord,
            _ => return Err(ProgramError::Kind),
        };
        let typed = |s: Section| {
            let bytes = section(blob, s)?;
            Ok(if bytes.is_empty() { None } else { Some(bytes) })
        };
        let set = typed(header.set)?.map(Set::new).transpose()?;
        let shape = typed(header.shape)?.map(Shape::new).transpose()?;
        let words = typed(header.words)?.map(Words::new).transpose()?;
        let word_chars = typed(header.word_chars)?.map(WordChars::new).transpose()?;
        let program = Program {
            find,
            accept,
            flags: ProgramFlags(header.flags),
            needle: section(blob, header.needle)?,
            set,
            shape,
            words,
            dfa: None,
            word_chars,
            starts: &header.starts,
        };
        Ok((header, program))
    }

    #[inline(never)]
    fn kinds_have_sections(&self) -> Result<(), ProgramError> {
        let found = match self.find {
            Find::Nothing | Find::Everything => true,
            Find::Literal => !self.needle.is_empty(),
            Find::Set => self.set.is_some(),
            Find::Dfa => self.dfa.is_some(),
            Find::Shape => self.shape.is_some() && self.dfa.is_some(),
            Find::Words | Find::Whole => self.words.is_some(),
        };
        let accepted = match self.accept {
            Accept::Hit => self.find != Find::Shape,
            Accept::Word | Accept::Line => {
                matches!(self.find, Find::Literal | Find::Set)
            }
            Accept::Dfa | Accept::DfaWord => self.dfa.is_some(),
        };
        if found && accepted { Ok(()) } else { Err(ProgramError::Kind) }
    }

    /// Whether `byte` may be the first of a match that is not empty.
    #[inline]
    pub(super) fn may_start(&self, byte: u8) -> bool {
        self.starts[byte as usize / 32] >> (byte % 32) & 1 != 0
    }
}

fn section(blob: &[u8], s: Section) -> Result<&[u8], ProgramError> {
    if s.len == 0 {
        return Ok(&[]);
    }
    if !s.offset.is_multiple_of(8) || (s.offset as usize) < size_of::<Header>() {
        return Err(ProgramError::Section);
    }
    let start = s.offset as usize;
    let end = start.checked_add(s.len as usize).ok_or(ProgramError::Section)?;
    blob.get(start..end).ok_or(ProgramError::Section)
}

/// Splits `count` values of `T` off the front of a section.
pub(super) fn table<T: Pod>(bytes: &[u8], count: usize) -> Result<(&[T], &[u8]), ProgramError> {
    let len = count.checked_mul(size_of::<T>()).ok_or(ProgramError::Table)?;
    if len > bytes.len() {
        return Err(ProgramError::Table);
    }
    let (head, tail) = bytes.split_at(len);
    let values = bytemuck::try_cast_slice(head).map_err(|_| ProgramError::Table)?;
    Ok((values, tail))
}
