//! Where a launch's instructions went, line by line.

use super::code::Program;

/// For each instruction of a program, by how many threads it was executed.
#[derive(Clone, Debug, Default)]
pub(super) struct Profile(Vec<u64>);

/// A line of the PTX that was executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileLine {
    /// The function that it belongs to, as the PTX names it: `c++filt` makes it readable.
    pub function: String,
    /// Its number in the text.
    pub line: u32,
    /// Its text.
    pub text: String,
    /// Instructions of threads.
    pub instructions: u64,
}

impl Profile {
    pub(super) fn new(program: &Program) -> Profile {
        Profile(vec![0; program.code.len()])
    }

    #[inline(always)]
    pub(super) fn add(&mut self, pc: u32, instructions: u64) {
        self.0[pc as usize] += instructions;
    }

    pub(super) fn merge(&mut self, other: &Profile) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        self.0.iter_mut().zip(&other.0).for_each(|(sum, more)| *sum += more);
    }

    /// The lines that were executed, in the order of the text.
    pub(super) fn lines(&self, program: &Program) -> Vec<ProfileLine> {
        let texts: Vec<&str> = program.text.lines().collect();
        let mut lines: Vec<ProfileLine> = Vec::new();
        for (pc, &instructions) in self.0.iter().enumerate().filter(|(_, n)| **n != 0) {
            let line = program.lines.get(pc).copied().unwrap_or(0);
            match lines.last_mut() {
                // Some lines became several instructions.
                Some(last) if last.line == line => last.instructions += instructions,
                _ => {
                    let function = program.function_at(pc as u32).map(|f| f.name.clone());
                    let text = texts.get((line as usize).saturating_sub(1)).unwrap_or(&"").trim();
                    lines.push(ProfileLine {
                        function: function.unwrap_or_default(),
                        line,
                        text: text.split_whitespace().collect::<Vec<_>>().join(" "),
                        instructions,
                    });
                }
            }
        }
        lines
    }
}
