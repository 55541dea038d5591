//! Operands: registers, numbers, names, each of the type that an instruction wants.

use super::function::Lowering;
use super::scope::Binding;
use super::{Symbol, truncated};
use crate::ptx::PtxError;
use crate::ptx::code::{Code, Counter, Inst, Space};
use crate::ptx::row::{Bank, LANES, Slot};
use crate::ptx::space;
use crate::ptx::special::Special;
use crate::ptx::syntax::{Operand, Size, Type};

/// What a name that is no register's stands for.
pub(super) struct Place {
    /// Where its address is.
    pub(super) slot: Slot,
    /// What memory it is in; any for functions, which are in none.
    pub(super) space: Space,
}

/// Whether nobody wants a result.
pub(super) fn is_unwanted(operand: &Operand<'_>) -> bool {
    matches!(operand, Operand::Name { name: "_", offset: 0 })
}

impl<'a> Lowering<'_, 'a> {
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
        match is_unwanted(operand) {
            true => self.scratch(),
            false => self.destination(operand, ty),
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
            _ if self.is_place(name) || self.is_special(name) => {
                self.malformed(format!("`{name}` is no register that it may have"))
            }
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

    /// Whether a name is a special register's.
    pub(super) fn is_special(&self, name: &str) -> bool {
        self.scopes.find(name).is_none()
            && (Special::named(name).is_some() || Counter::named(name).is_some())
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
