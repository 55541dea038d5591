//! What names mean inside a function: registers, parameters and local variables, by blocks.

use std::collections::HashMap;

use super::duplicate;
use crate::ptx::PtxError;
use crate::ptx::code::rows_of;
use crate::ptx::syntax::{Space, Type, Variable};

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Binding {
    Register {
        row: u32,
        ty: Type,
    },
    /// Bytes in rows: a parameter, or what a call passes or gets.
    Param {
        row: u32,
        bytes: u32,
        /// Whether it is the function's own parameter, which it only reads.
        given: bool,
    },
    /// At an offset in the function's local memory.
    Local {
        offset: u32,
    },
}

/// A register family, like `%r<9>`.
#[derive(Clone, Copy, Debug)]
struct Family {
    row: u32,
    count: u32,
    ty: Type,
}

#[derive(Default)]
struct Block<'a> {
    names: HashMap<&'a str, Binding>,
    families: HashMap<&'a str, Family>,
    /// The first row after those of the blocks around this one.
    first: u32,
}

/// The blocks around the statement at hand, innermost last.
pub(super) struct Scopes<'a> {
    blocks: Vec<Block<'a>>,
    next: u32,
    /// The most rows that were ever in use.
    pub(super) rows: u32,
    pub(super) local_bytes: u32,
    /// The largest alignment of a local variable.
    pub(super) local_align: u32,
}

/// The most rows of a frame: no compiler makes a function with so many registers.
const MOST_ROWS: u64 = 1 << 17;
/// The most bytes of a function's local variables.
const MOST_LOCAL: u64 = 1 << 24;

impl<'a> Scopes<'a> {
    pub(super) fn new(first: u32) -> Self {
        Scopes {
            blocks: vec![Block { first, ..Block::default() }],
            next: first,
            rows: first,
            local_bytes: 0,
            local_align: 1,
        }
    }

    pub(super) fn open(&mut self) {
        self.blocks.push(Block { first: self.next, ..Block::default() });
    }

    pub(super) fn close(&mut self) {
        // The parser matches braces; the outermost block is the function's own.
        if self.blocks.len() > 1
            && let Some(block) = self.blocks.pop()
        {
            self.next = block.first;
        }
    }

    /// Takes rows until the block is closed.
    pub(super) fn take(&mut self, line: u32, rows: u32) -> Result<u32, PtxError> {
        let first = self.next;
        let end = u64::from(first) + u64::from(rows);
        if end > MOST_ROWS {
            let (what, bytes, most) = ("a function's registers", end * 8, MOST_ROWS * 8);
            return Err(PtxError::TooLarge { line, what, bytes, most });
        }
        self.next = end as u32;
        self.rows = self.rows.max(self.next);
        Ok(first)
    }

    /// Gives rows back that were taken since `mark`.
    pub(super) fn give_back(&mut self, mark: u32) {
        self.next = mark;
    }

    /// The row that is taken next.
    pub(super) fn mark(&self) -> u32 {
        self.next
    }

    pub(super) fn bind(
        &mut self,
        line: u32,
        name: &'a str,
        binding: Binding,
    ) -> Result<(), PtxError> {
        let block = self.blocks.last_mut().expect("the outermost block is never closed");
        match block.names.insert(name, binding) {
            None => Ok(()),
            Some(_) => Err(duplicate(line, name)),
        }
    }

    pub(super) fn declare(&mut self, variable: &Variable<'a>) -> Result<(), PtxError> {
        let (line, name) = (variable.line, variable.name);
        let binding = match (variable.space, variable.family) {
            (Space::Reg, Some(count)) => {
                let family = Family { row: self.take(line, count)?, count, ty: variable.ty };
                let block = self.blocks.last_mut().expect("the outermost block is never closed");
                return match block.families.insert(name, family) {
                    None => Ok(()),
                    Some(_) => Err(duplicate(line, name)),
                };
            }
            (Space::Reg, None) => Binding::Register { row: self.take(line, 1)?, ty: variable.ty },
            (Space::Param, _) => {
                let bytes = variable.bytes();
                Binding::Param { row: self.take(line, rows_of(bytes))?, bytes, given: false }
            }
            (Space::Local, _) => {
                let offset = u64::from(self.local_bytes).next_multiple_of(variable.align.into());
                let end = offset + u64::from(variable.bytes());
                if end > MOST_LOCAL {
                    let what = "a function's local variables";
                    return Err(PtxError::TooLarge { line, what, bytes: end, most: MOST_LOCAL });
                }
                self.local_bytes = end as u32;
                self.local_align = self.local_align.max(variable.align);
                Binding::Local { offset: offset as u32 }
            }
            (Space::Shared | Space::Global, _) => {
                return Err(PtxError::Unsupported {
                    line,
                    instruction: name.to_owned(),
                    why: " as a static variable inside a function".into(),
                });
            }
        };
        self.bind(line, name, binding)
    }

    pub(super) fn find(&self, name: &str) -> Option<Binding> {
        let (family, number) = split(name);
        self.blocks.iter().rev().find_map(|block| {
            let found = number.and_then(|number| {
                let family = block.families.get(family)?;
                (number < family.count)
                    .then_some(Binding::Register { row: family.row + number, ty: family.ty })
            });
            found.or_else(|| block.names.get(name).copied())
        })
    }
}

/// A name and the number it ends in.
fn split(name: &str) -> (&str, Option<u32>) {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &name[stem.len()..];
    // As the declaration names them: `%r01` is not `%r1`.
    let plain = digits.len() == 1 || !digits.starts_with('0');
    (stem, digits.parse().ok().filter(|_| plain))
}
