//! A function's statements and its labels.

use std::collections::HashMap;

use super::Linker;
use super::scope::{Binding, Scopes};
use crate::ptx::PtxError;
use crate::ptx::code::{Code, Inst, Signature};
use crate::ptx::row::Slot;
use crate::ptx::syntax::{self, Instruction, Statement};

/// A function on its way.
pub(super) struct Lowering<'l, 'a> {
    pub(super) linker: &'l mut Linker<'a>,
    pub(super) scopes: Scopes<'a>,
    labels: HashMap<&'a str, u32>,
    /// Branches whose targets are not known yet.
    jumps: Vec<(usize, &'a str, u32)>,
    /// Tables of labels, by name.
    pub(super) tables: HashMap<&'a str, usize>,
    table_labels: Vec<(usize, Vec<&'a str>, u32)>,
    pub(super) prototypes: HashMap<&'a str, Signature>,
    /// The function's number.
    pub(super) number: u32,
    /// The carry flag.
    pub(super) carry: Slot,
    /// The instruction at hand.
    pub(super) line: u32,
    pub(super) opcode: &'a str,
}

/// Lowers a function and enters where it begins and what it needs.
pub(super) fn lower<'a>(
    linker: &mut Linker<'a>,
    number: u32,
    function: &syntax::Function<'a>,
    body: &[Statement<'a>],
) -> Result<(), PtxError> {
    let start = linker.code.len() as u32;
    let signature = linker.functions[number as usize].signature.clone();
    let (rows, end) = signature.rows();
    let mut lowering = Lowering {
        linker,
        scopes: Scopes::new(end + 1),
        labels: HashMap::new(),
        jumps: Vec::new(),
        tables: HashMap::new(),
        table_labels: Vec::new(),
        prototypes: HashMap::new(),
        number,
        carry: Slot::frame(end),
        line: function.line,
        opcode: "",
    };
    let params = function.params.iter().map(|variable| (variable, true));
    let results = function.results.iter().map(|variable| (variable, false));
    for ((variable, given), row) in params.chain(results).zip(rows) {
        let binding = Binding::Param { row, bytes: variable.bytes(), given };
        lowering.scopes.bind(variable.line, variable.name, binding)?;
    }
    for statement in body {
        lowering.statement(statement)?;
    }
    // Whoever comes here has left the function's end behind.
    lowering.emit(Inst::new(Code::Trap));
    lowering.resolve()?;
    let (rows, local) = (lowering.scopes.rows, lowering.scopes.local_bytes);
    let align = lowering.scopes.local_align;
    let done = &mut linker.functions[number as usize];
    done.start = start;
    done.rows = rows;
    done.local_bytes = local;
    linker.local_align = linker.local_align.max(align);
    Ok(())
}

impl<'a> Lowering<'_, 'a> {
    fn statement(&mut self, statement: &Statement<'a>) -> Result<(), PtxError> {
        match statement {
            Statement::Open => self.scopes.open(),
            Statement::Close => self.scopes.close(),
            Statement::Label(name) => {
                let here = self.here();
                if self.labels.insert(name, here).is_some() {
                    return Err(super::duplicate(self.line, name));
                }
            }
            Statement::Declare(variable) => self.scopes.declare(variable)?,
            Statement::Targets { name, labels } => {
                let table = self.linker.tables.len();
                self.linker.tables.push(Vec::new());
                self.tables.insert(name, table);
                self.table_labels.push((table, labels.clone(), self.line));
            }
            Statement::Prototype { name, results, params } => {
                let signature = Signature { params: params.clone(), results: results.clone() };
                self.prototypes.insert(name, signature);
            }
            Statement::Instruction(instruction) => self.guarded(instruction)?,
        }
        Ok(())
    }

    /// An instruction with a guard that is no branch is one that a branch goes around.
    fn guarded(&mut self, instruction: &Instruction<'a>) -> Result<(), PtxError> {
        (self.line, self.opcode) = (instruction.line, instruction.opcode);
        let mark = self.scopes.mark();
        match &instruction.guard {
            Some(guard) => {
                let predicate = self.predicate(guard.register)?;
                if matches!(instruction.opcode, "bra" | "bra.uni") {
                    return self.branch(&instruction.operands, Some((predicate, !guard.negated)));
                }
                let skip = self.linker.code.len();
                self.emit(Inst {
                    a: predicate,
                    weight: 0,
                    ..Inst::new(Code::Unless { when: !guard.negated })
                });
                self.instruction(instruction)?;
                self.linker.code[skip].imm = self.here().into();
            }
            None => self.instruction(instruction)?,
        }
        self.scopes.give_back(mark);
        Ok(())
    }

    /// Where the next instruction goes.
    pub(super) fn here(&self) -> u32 {
        self.linker.code.len() as u32
    }

    pub(super) fn emit(&mut self, inst: Inst) {
        self.linker.code.push(inst);
        self.linker.lines.push(self.line);
    }

    /// Emits an instruction that counts for none.
    pub(super) fn emit_part(&mut self, inst: Inst) {
        self.emit(Inst { weight: 0, ..inst });
    }

    /// Emits a branch to a label.
    pub(super) fn emit_jump(&mut self, inst: Inst, label: &'a str) {
        self.jumps.push((self.linker.code.len(), label, self.line));
        self.emit(inst);
    }

    fn resolve(&mut self) -> Result<(), PtxError> {
        let find = |label: &str, line| {
            let found = self.labels.get(label).copied();
            found.ok_or_else(|| PtxError::Unknown { line, name: label.to_owned() })
        };
        for &(inst, label, line) in &self.jumps {
            self.linker.code[inst].imm = find(label, line)?.into();
        }
        for (table, labels, line) in &self.table_labels {
            let targets = labels.iter().map(|label| find(label, *line));
            self.linker.tables[*table] = targets.collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    pub(super) fn unsupported<T>(&self, why: &str) -> Result<T, PtxError> {
        Err(PtxError::Unsupported {
            line: self.line,
            instruction: self.opcode.to_owned(),
            why: if why.is_empty() { String::new() } else { format!(" with {why}") },
        })
    }

    pub(super) fn malformed<T>(&self, why: impl Into<String>) -> Result<T, PtxError> {
        Err(PtxError::Malformed {
            line: self.line,
            instruction: self.opcode.to_owned(),
            why: why.into(),
        })
    }

    /// Fails where the module is of an older version of PTX, in tenths, or for an older architecture.
    pub(super) fn since(&self, version: u32, sm: u32) -> Result<(), PtxError> {
        let machine = self.linker.machine;
        if machine.version < version {
            return self.malformed(format!("PTX {}.{} is due", version / 10, version % 10));
        }
        if machine.sm < sm {
            return self.malformed(format!("there is none before sm_{sm}"));
        }
        Ok(())
    }

    pub(super) fn unknown<T>(&self, name: &str) -> Result<T, PtxError> {
        Err(PtxError::Unknown { line: self.line, name: name.to_owned() })
    }

    pub(super) fn number(&mut self, value: u64) -> Slot {
        self.linker.number(value)
    }

    /// A row for the time of this instruction.
    pub(super) fn scratch(&mut self) -> Result<Slot, PtxError> {
        Ok(Slot::frame(self.scopes.take(self.line, 1)?))
    }
}
