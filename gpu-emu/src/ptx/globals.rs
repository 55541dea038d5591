//! The global variables of a module.

use super::PtxError;
use super::syntax::Variable;

/// The largest alignment of a variable.
const PAGE: usize = 4096;
/// The most bytes that all variables of a module may take.
const MOST: u64 = 1 << 28;

/// A variable.
#[derive(Clone, Debug)]
pub(super) struct Global {
    pub(super) name: String,
    /// Its address, which is the host's.
    pub(super) address: u64,
    pub(super) bytes: u32,
}

/// All of them, in memory of their own.
#[derive(Debug, Default)]
pub(super) struct Globals {
    memory: Vec<u64>,
    pub(super) variables: Vec<Global>,
}

impl Globals {
    /// Makes room for variables, all zero.
    pub(super) fn new(variables: &[&Variable<'_>]) -> Result<Globals, PtxError> {
        let (mut bytes, mut offsets) = (0u64, Vec::new());
        for variable in variables {
            let offset = bytes.next_multiple_of(variable.align.into());
            bytes = offset + u64::from(variable.bytes());
            if bytes > MOST {
                let (line, what) = (variable.line, "global variables");
                return Err(PtxError::TooLarge { line, what, bytes, most: MOST });
            }
            offsets.push(offset);
        }
        let memory = vec![0u64; (bytes as usize + PAGE) / 8 + 1];
        let base = (memory.as_ptr().expose_provenance().next_multiple_of(PAGE)) as u64;
        let variables = variables.iter().zip(offsets).map(|(variable, offset)| Global {
            name: variable.name.to_owned(),
            address: base + offset,
            bytes: variable.bytes(),
        });
        Ok(Globals { variables: variables.collect(), memory })
    }

    /// Writes one of the elements of a variable, before anything runs.
    pub(super) fn initialise(&mut self, variable: usize, element: u32, bytes: u32, value: u64) {
        let variable = &self.variables[variable];
        debug_assert!(bytes <= 8 && (element + 1) * bytes <= variable.bytes);
        let base = self.memory.as_ptr().expose_provenance() as u64;
        let first = (variable.address - base + u64::from(element * bytes)) as usize;
        for (n, byte) in value.to_le_bytes().into_iter().take(bytes as usize).enumerate() {
            let (word, shift) = ((first + n) / 8, (first + n) % 8 * 8);
            self.memory[word] = self.memory[word] & !(0xff << shift) | u64::from(byte) << shift;
        }
    }

    /// The address and size of a variable.
    pub(super) fn find(&self, name: &str) -> Option<&Global> {
        self.variables.iter().find(|variable| variable.name == name)
    }
}
