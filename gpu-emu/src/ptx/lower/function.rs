//! A function's statements, its labels, and what operands there are.

use std::collections::HashMap;

use super::scope::{Binding, Scopes};
use super::{Linker, Symbol, truncated};
use crate::ptx::PtxError;
use crate::ptx::code::{Code, Counter, Inst, Signature, Space};
use crate::ptx::row::{Bank, LANES, Slot};
use crate::ptx::space;
use crate::ptx::special::Special;
use crate::ptx::syntax::{self, Instruction, Operand, Size, Statement, Type};

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
        Ok(self.register(name, Type::Pred, Size::Same)?.0)
    }

    /// The register that a result goes to.
    pub(super) fn destination(
        &mut self,
        operand: &Operand<'a>,
        ty: Type,
    ) -> Result<Slot, PtxError> {
        Ok(self.sized_destination(operand, ty, Size::Same)?.0)
    }

    /// The same, or a place for a result that nobody wants.
    pub(super) fn destination_or_none(
        &mut self,
        operand: &Operand<'a>,
        ty: Type,
    ) -> Result<Slot, PtxError> {
        match *operand {
            Operand::Name { name: "_", offset: 0 } => self.scratch(),
            _ => self.destination(operand, ty),
        }
    }

    /// The register that a result goes to, and its type.
    pub(super) fn sized_destination(
        &mut self,
        operand: &Operand<'a>,
        ty: Type,
        size: Size,
    ) -> Result<(Slot, Type), PtxError> {
        match *operand {
            Operand::Name { name, offset: 0 } => self.register(name, ty, size),
            _ => self.malformed("the result goes to a register"),
        }
    }

    /// A register that an instruction of type `ty` may have for an operand, and its own type.
    pub(super) fn register(
        &self,
        name: &str,
        ty: Type,
        size: Size,
    ) -> Result<(Slot, Type), PtxError> {
        match self.scopes.find(name) {
            Some(Binding::Register { row, ty: own }) if ty.is_held_by(own, size) => {
                Ok((Slot::frame(row), own))
            }
            Some(Binding::Register { ty: own, .. }) => {
                self.malformed(format!("`{name}` is of type .{own} where .{ty} is due"))
            }
            Some(_) => self.malformed(format!("`{name}` is no register")),
            None if name == "_" => self.malformed("a register is due, not `_`"),
            None => self.unknown(name),
        }
    }

    /// Where an operand is. Numbers and registers are of type `ty`.
    pub(super) fn source(&mut self, operand: &Operand<'a>, ty: Type) -> Result<Slot, PtxError> {
        self.sized_source(operand, ty, Size::Same)
    }

    pub(super) fn sized_source(
        &mut self,
        operand: &Operand<'a>,
        ty: Type,
        size: Size,
    ) -> Result<Slot, PtxError> {
        match *operand {
            Operand::Not(name) if ty == Type::Pred => {
                let (a, d) = (self.predicate(name)?, self.scratch()?);
                let not = self.map("not", &[], Type::Pred)?;
                self.emit_map_part(not, d, [a, Slot::NONE, Slot::NONE, Slot::NONE]);
                Ok(d)
            }
            Operand::Name { name, offset } => self.named(name, offset, ty, size),
            _ => {
                let value = self.constant(operand, ty)?;
                Ok(self.number(value))
            }
        }
    }

    /// The bits of an operand that is written as a number.
    fn constant(&self, operand: &Operand<'a>, ty: Type) -> Result<u64, PtxError> {
        Ok(match *operand {
            Operand::Int(value) if ty == Type::Pred => u64::from(value != 0),
            Operand::Int(value) if !ty.is_float() => truncated(value, ty),
            Operand::Single(bits) if matches!(ty, Type::F32 | Type::B32) => bits.into(),
            Operand::Double(bits) if ty == Type::F32 => {
                (f64::from_bits(bits) as f32).to_bits().into()
            }
            Operand::Double(bits) if matches!(ty, Type::F64 | Type::B64) => bits,
            Operand::Int(_) | Operand::Single(_) | Operand::Double(_) => {
                return self.malformed(format!("a number of type .{ty} is due"));
            }
            _ => return self.malformed("an operand of another form is due"),
        })
    }

    fn named(
        &mut self,
        name: &'a str,
        offset: i64,
        ty: Type,
        size: Size,
    ) -> Result<Slot, PtxError> {
        match self.scopes.find(name) {
            Some(Binding::Register { .. }) if offset == 0 => {
                return Ok(self.register(name, ty, size)?.0);
            }
            Some(Binding::Register { .. }) => return self.malformed("a register has no offset"),
            Some(Binding::Param { .. }) => return self.unsupported("the address of a parameter"),
            Some(Binding::Local { .. }) | None => {}
        }
        let instruction = self.opcode.split('.').next().unwrap_or_default();
        match instruction {
            _ if name == "WARP_SZ" && !ty.is_float() => Ok(self.number(LANES as u64)),
            "mov" | "cvt" if name.starts_with('%') => self.special(name, ty, size),
            "mov" if !ty.is_float() && ty.bits() >= 32 => {
                let Place { slot, space } = self.place(name, offset)?;
                // Shared and local memory are small, and begin at zero.
                if ty.bits() == 32 && !matches!(space, Space::Shared | Space::Local) {
                    return self.malformed(format!("`{name}` is an address of 64 bits"));
                }
                Ok(slot)
            }
            _ if self.knows(name) => self.malformed(format!("`{name}` is no register")),
            _ => self.unknown(name),
        }
    }

    /// Whether a name stands for an address.
    pub(super) fn is_place(&self, name: &str) -> bool {
        match self.scopes.find(name) {
            Some(binding) => matches!(binding, Binding::Local { .. }),
            None => self.linker.symbols.contains_key(name),
        }
    }

    /// Whether something beside a register has the name.
    fn knows(&self, name: &str) -> bool {
        self.is_place(name) || Special::named(name).is_some() || Counter::named(name).is_some()
    }

    /// The address that a name stands for: in its space, or a generic one where that is the same.
    pub(super) fn place(&mut self, name: &str, offset: i64) -> Result<Place, PtxError> {
        if let Some(Binding::Local { offset: at }) = self.scopes.find(name) {
            let slot = self.scratch()?;
            let imm = i64::from(at).wrapping_add(offset);
            self.emit_part(Inst { d: slot, imm, ..Inst::new(Code::LocalAddress) });
            return Ok(Place { slot, space: Space::Local });
        }
        let (address, space) = match self.linker.symbols.get(name) {
            Some(&Symbol::Global(address)) => (address, Space::Global),
            Some(&Symbol::Shared(at)) => (at.into(), Space::Shared),
            Some(&Symbol::Function(number)) => (space::function_address(number), Space::Generic),
            None => return self.unknown(name),
        };
        let slot = self.number(address.wrapping_add_signed(offset));
        Ok(Place { slot, space })
    }

    /// A special register, where an operand of type `ty` is due.
    fn special(&mut self, name: &str, ty: Type, size: Size) -> Result<Slot, PtxError> {
        let (counter, special) = (Counter::named(name), Special::named(name));
        // `%gridid` once had 32 bits.
        let own = match (counter, special) {
            (Some(counter), _) if counter.bits() == 64 => Type::U64,
            (_, Some(Special::GridId)) if ty.bits() == 64 => Type::U64,
            _ => Type::U32,
        };
        match (counter, special) {
            (None, None) => self.unknown(name),
            _ if !ty.is_held_by(own, size) => {
                self.malformed(format!("`{name}` is of type .{own} where .{ty} is due"))
            }
            (_, Some(special)) => Ok(Slot::new(Bank::Special, special as u32)),
            (Some(counter), None) => {
                let d = self.scratch()?;
                self.emit_part(Inst { d, ..Inst::new(Code::Read(counter)) });
                Ok(d)
            }
        }
    }
}

/// What a name that is no register's stands for.
pub(super) struct Place {
    /// Where its address is.
    pub(super) slot: Slot,
    /// What memory it is in; any for functions, which are in none.
    pub(super) space: Space,
}
