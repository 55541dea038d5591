//! A function's statements, its labels, and what operands there are.

use std::collections::HashMap;

use super::scope::{Binding, Scopes};
use super::{Linker, Symbol, truncated};
use crate::ptx::PtxError;
use crate::ptx::alu;
use crate::ptx::code::{Code, Counter, Inst, Signature};
use crate::ptx::row::{Bank, Slot};
use crate::ptx::space;
use crate::ptx::special::Special;
use crate::ptx::syntax::{self, Instruction, Operand, Statement, Type};

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
    for (variable, row) in function.params.iter().chain(&function.results).zip(rows) {
        let binding = Binding::Param { row, bytes: variable.bytes() };
        lowering.scopes.bind(variable.line, variable.name, binding)?;
    }
    for statement in body {
        lowering.statement(statement)?;
    }
    // Whoever comes here has left the function's end behind.
    lowering.emit(Inst::new(Code::Trap));
    lowering.resolve()?;
    let (rows, local) = (lowering.scopes.rows, lowering.scopes.local_bytes);
    let done = &mut linker.functions[number as usize];
    done.start = start;
    done.rows = rows;
    done.local_bytes = local.next_multiple_of(16);
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

    fn unknown<T>(&self, name: &str) -> Result<T, PtxError> {
        Err(PtxError::Unknown { line: self.line, name: name.to_owned() })
    }

    /// The operands, as many as there must be.
    pub(super) fn operands<'o, const N: usize>(
        &self,
        operands: &'o [Operand<'a>],
    ) -> Result<&'o [Operand<'a>; N], PtxError> {
        match operands.try_into() {
            Ok(operands) => Ok(operands),
            Err(_) => self.malformed(format!("{} operands instead of {N}", operands.len())),
        }
    }

    pub(super) fn number(&mut self, value: u64) -> Slot {
        self.linker.number(value)
    }

    /// A row for the time of this instruction.
    pub(super) fn scratch(&mut self) -> Result<Slot, PtxError> {
        Ok(Slot::frame(self.scopes.take(self.line, 1)?))
    }

    pub(super) fn predicate(&self, name: &str) -> Result<Slot, PtxError> {
        match self.scopes.find(name) {
            Some(Binding::Register { row, ty: Type::Pred }) => Ok(Slot::frame(row)),
            Some(_) => self.malformed(format!("`{name}` is no predicate")),
            None => self.unknown(name),
        }
    }

    /// The register that a result goes to, and its type.
    pub(super) fn destination(&mut self, operand: &Operand<'a>) -> Result<(Slot, Type), PtxError> {
        match *operand {
            Operand::Name { name: "_", offset: 0 } => Ok((self.scratch()?, Type::B64)),
            Operand::Name { name, offset: 0 } => self.register(name),
            _ => self.malformed("the result goes to a register"),
        }
    }

    pub(super) fn register(&self, name: &str) -> Result<(Slot, Type), PtxError> {
        match self.scopes.find(name) {
            Some(Binding::Register { row, ty }) => Ok((Slot::frame(row), ty)),
            Some(_) => self.malformed(format!("`{name}` is no register")),
            None => self.unknown(name),
        }
    }

    /// Where an operand is; numbers are of type `ty`.
    pub(super) fn source(&mut self, operand: &Operand<'a>, ty: Type) -> Result<Slot, PtxError> {
        let value = match *operand {
            Operand::Int(value) if ty == Type::Pred => u64::from(value != 0),
            Operand::Int(value) => truncated(value, ty),
            Operand::Single(bits) if ty == Type::F64 => f64::from(f32::from_bits(bits)).to_bits(),
            Operand::Single(bits) => bits.into(),
            Operand::Double(bits) if ty == Type::F32 => {
                (f64::from_bits(bits) as f32).to_bits().into()
            }
            Operand::Double(bits) => bits,
            Operand::Not(name) => {
                let (a, d) = (self.predicate(name)?, self.scratch()?);
                let Some(not) = alu::find("not", &[], Type::Pred) else {
                    return self.unsupported("a negated predicate");
                };
                self.emit_part(Inst { d, a, ..Inst::new(Code::Map(not.map)) });
                return Ok(d);
            }
            Operand::Name { name, offset } => return self.named(name, offset),
            _ => return self.malformed("an operand of another form is due"),
        };
        Ok(self.number(value))
    }

    fn named(&mut self, name: &'a str, offset: i64) -> Result<Slot, PtxError> {
        match self.scopes.find(name) {
            Some(Binding::Register { row, .. }) if offset == 0 => return Ok(Slot::frame(row)),
            Some(Binding::Local { offset: at }) => {
                let d = self.scratch()?;
                let imm = i64::from(at).wrapping_add(offset);
                self.emit_part(Inst { d, imm, ..Inst::new(Code::LocalAddress) });
                return Ok(d);
            }
            Some(Binding::Param { .. }) => return self.unsupported("the address of a parameter"),
            Some(_) => return self.malformed("a register has no offset"),
            None => {}
        }
        if name.starts_with('%') {
            return self.special(name);
        }
        let address = match self.linker.symbols.get(name) {
            Some(&Symbol::Global(address)) => address,
            Some(&Symbol::Shared(at)) => at.into(),
            Some(&Symbol::Function(number)) => space::function_address(number),
            None if name == "WARP_SZ" => 32,
            None => return self.unknown(name),
        };
        Ok(self.number(address.wrapping_add_signed(offset)))
    }

    fn special(&mut self, name: &str) -> Result<Slot, PtxError> {
        if let Some(special) = Special::named(name) {
            return Ok(Slot::new(Bank::Special, special as u32));
        }
        let counter = match name {
            "%clock" => Counter::Clock { shift: 0, bits: 32 },
            "%clock_hi" => Counter::Clock { shift: 32, bits: 32 },
            "%clock64" => Counter::Clock { shift: 0, bits: 64 },
            "%globaltimer" => Counter::Nanoseconds { shift: 0, bits: 64 },
            "%globaltimer_lo" => Counter::Nanoseconds { shift: 0, bits: 32 },
            "%globaltimer_hi" => Counter::Nanoseconds { shift: 32, bits: 32 },
            _ => return self.unknown(name),
        };
        let d = self.scratch()?;
        self.emit_part(Inst { d, ..Inst::new(Code::Read(counter)) });
        Ok(d)
    }
}
