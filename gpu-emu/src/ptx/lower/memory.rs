//! Loads, stores and read-modify-writes; and parameters, which are registers here.

use super::function::Lowering;
use super::scope::Binding;
use crate::ptx::PtxError;
use crate::ptx::alu::{self, Alu};
use crate::ptx::code::{Access, Atomic, AtomicOp, Code, Inst, Order, Space};
use crate::ptx::row::{Map, Slot};
use crate::ptx::syntax::{Operand, Type};

/// What modifiers say of an access.
struct Modifiers {
    /// Nothing for parameters.
    space: Option<Space>,
    order: Order,
    count: u8,
    ty: Type,
}

impl<'a> Lowering<'_, 'a> {
    fn modifiers(&self, modifiers: &[&str]) -> Result<Modifiers, PtxError> {
        let Some((ty, rest)) = modifiers.split_last() else {
            return self.malformed("a type is due");
        };
        let ty = self.ty(Some(ty))?;
        let (mut space, mut order, mut count) = (Some(Space::Generic), Order::Weak, 1);
        for &modifier in rest {
            match modifier {
                "param" | "param::entry" | "param::func" => space = None,
                "global" | "const" => space = Some(Space::Global),
                "shared" | "shared::cta" => space = Some(Space::Shared),
                "local" => space = Some(Space::Local),
                "v2" => count = 2,
                "v4" => count = 4,
                "relaxed" | "volatile" => order = Order::Relaxed,
                "acquire" => order = Order::Acquire,
                "release" => order = Order::Release,
                // Scopes: the orders here hold for the whole system. And hints.
                "cta" | "gpu" | "sys" | "weak" | "nc" | "ca" | "cg" | "cs" | "lu" | "cv" | "wb"
                | "wt" => {}
                _ => return self.unsupported(&format!("modifier `{modifier}`")),
            }
        }
        if ty == Type::Pred || u32::from(count) * ty.bytes() > 16 {
            return self.malformed("at most 16 bytes are accessed at once");
        }
        Ok(Modifiers { space, order, count, ty })
    }

    /// The row and the offset that a memory operand names.
    fn address(&mut self, operand: &Operand<'a>) -> Result<(Slot, i64), PtxError> {
        let Operand::Memory { base, offset } = *operand else {
            return self.malformed("an address in brackets is due");
        };
        match base {
            Some(name) => {
                let base = Operand::Name { name, offset: 0 };
                Ok((self.source(&base, Type::U64)?, offset))
            }
            None => Ok((self.number(0), offset)),
        }
    }

    /// One operand, or the elements of a vector.
    fn elements<'o>(
        &self,
        operand: &'o Operand<'a>,
        count: u8,
    ) -> Result<&'o [Operand<'a>], PtxError> {
        match (operand, count) {
            (Operand::Vector(elements), 2..) if elements.len() == usize::from(count) => {
                Ok(elements)
            }
            (Operand::Vector(_), _) | (_, 2..) => {
                self.malformed(format!("{count} elements are due"))
            }
            _ => Ok(std::slice::from_ref(operand)),
        }
    }

    /// One slot, or the place of several in the list.
    fn listed(&mut self, slots: &[Slot]) -> Slot {
        match slots {
            [slot] => *slot,
            _ => {
                let first = self.linker.lists.len() as u32;
                self.linker.lists.extend(slots);
                Slot::frame(first)
            }
        }
    }

    pub(super) fn load(
        &mut self,
        modifiers: &[&str],
        operands: &[Operand<'a>],
    ) -> Result<(), PtxError> {
        let Modifiers { space, order, count, ty } = self.modifiers(modifiers)?;
        let [to, from] = self.operands(operands)?;
        let elements = self.elements(to, count)?;
        let Some(space) = space else { return self.load_param(elements, from, ty) };
        if matches!(order, Order::Release | Order::Both) {
            return self.malformed("a load does not release");
        }
        let mut slots = Vec::new();
        let mut width = 64;
        for element in elements {
            let (slot, register) = self.destination(element)?;
            width = register.bits();
            slots.push(slot);
        }
        let signed = ty.is_signed() && ty.bits() < width;
        let access = Access {
            space,
            order,
            bytes: ty.bytes() as u8,
            count,
            signed: signed.then_some(width as u8),
        };
        let (a, imm) = self.address(from)?;
        let d = self.listed(&slots);
        self.emit(Inst { d, a, imm, ..Inst::new(Code::Load(access)) });
        Ok(())
    }

    pub(super) fn store(
        &mut self,
        modifiers: &[&str],
        operands: &[Operand<'a>],
    ) -> Result<(), PtxError> {
        let Modifiers { space, order, count, ty } = self.modifiers(modifiers)?;
        let [to, from] = self.operands(operands)?;
        let elements = self.elements(from, count)?;
        let Some(space) = space else { return self.store_param(elements, to, ty) };
        if matches!(order, Order::Acquire | Order::Both) {
            return self.malformed("a store does not acquire");
        }
        let mut slots = Vec::new();
        for element in elements {
            slots.push(self.source(element, ty)?);
        }
        let access = Access { space, order, bytes: ty.bytes() as u8, count, signed: None };
        let (a, imm) = self.address(to)?;
        let b = self.listed(&slots);
        self.emit(Inst { a, b, imm, ..Inst::new(Code::Store(access)) });
        Ok(())
    }

    /// The row that holds a parameter's bytes from `offset` on, and the bit at which they begin.
    fn param(
        &self,
        operand: &Operand<'a>,
        ty: Type,
        element: usize,
    ) -> Result<(Slot, u32), PtxError> {
        let Operand::Memory { base: Some(name), offset } = *operand else {
            return self.unsupported("an address that is no parameter's name");
        };
        let Some(Binding::Param { row, bytes }) = self.scopes.find(name) else {
            return Err(PtxError::Unknown { line: self.line, name: name.to_owned() });
        };
        let size = ty.bytes();
        let at = i128::from(offset) + i128::from(size) * element as i128;
        let fits = at >= 0 && at + i128::from(size) <= i128::from(bytes);
        if !fits || at % i128::from(size) != 0 {
            return self
                .malformed(format!("`{name}` has {bytes} bytes, and none at {at} for this"));
        }
        let at = at as u32;
        Ok((Slot::frame(row + at / 8), at % 8 * 8))
    }

    fn bits_of(&self, name: &str, ty: Type) -> Result<Map, PtxError> {
        match alu::find(name, &[], ty) {
            Some(Alu { map, .. }) => Ok(map),
            None => self.unsupported(""),
        }
    }

    fn load_param(
        &mut self,
        elements: &[Operand<'a>],
        from: &Operand<'a>,
        ty: Type,
    ) -> Result<(), PtxError> {
        for (n, element) in elements.iter().enumerate() {
            let (a, at) = self.param(from, ty, n)?;
            let (d, register) = self.destination(element)?;
            let (at, length) = (self.number(at.into()), self.number(ty.bits().into()));
            let map = match ty.bits() {
                64 => self.bits_of("mov", Type::B64)?,
                _ if ty.is_signed() => self.bits_of("bfe", Type::S64)?,
                _ => self.bits_of("bfe", Type::U64)?,
            };
            let weight = u8::from(n == 0);
            self.emit(Inst { d, a, b: at, c: length, weight, ..Inst::new(Code::Map(map)) });
            if ty.is_signed() && register.bits() < 64 {
                let mask = self.number(u64::MAX >> (64 - register.bits()));
                let and = self.bits_of("and", Type::B64)?;
                self.emit_map_part(and, d, [d, mask, Slot::NONE, Slot::NONE]);
            }
        }
        Ok(())
    }

    fn store_param(
        &mut self,
        elements: &[Operand<'a>],
        to: &Operand<'a>,
        ty: Type,
    ) -> Result<(), PtxError> {
        for (n, element) in elements.iter().enumerate() {
            let (d, at) = self.param(to, ty, n)?;
            let value = self.source(element, ty)?;
            let (at, length) = (self.number(at.into()), self.number(ty.bits().into()));
            let weight = u8::from(n == 0);
            if ty.bits() == 64 {
                let map = self.bits_of("mov", Type::B64)?;
                self.emit(Inst { d, a: value, weight, ..Inst::new(Code::Map(map)) });
            } else {
                let map = self.bits_of("bfi", Type::B64)?;
                let inst = Inst::new(Code::Map(map));
                self.emit(Inst { d, a: value, b: d, c: at, e: length, weight, ..inst });
            }
        }
        Ok(())
    }

    pub(super) fn atomic(
        &mut self,
        modifiers: &[&str],
        operands: &[Operand<'a>],
        returns: bool,
    ) -> Result<(), PtxError> {
        let Some((ty, rest)) = modifiers.split_last() else {
            return self.malformed("a type is due");
        };
        let ty = self.ty(Some(ty))?;
        let (mut space, mut order, mut op) = (Space::Generic, Order::Relaxed, None);
        for &modifier in rest {
            match modifier {
                "global" => space = Space::Global,
                "shared" | "shared::cta" => space = Space::Shared,
                "relaxed" => order = Order::Relaxed,
                "acquire" => order = Order::Acquire,
                "release" => order = Order::Release,
                "acq_rel" => order = Order::Both,
                "cta" | "gpu" | "sys" => {}
                _ if op.is_none() => op = atomic_op(modifier, ty),
                _ => return self.unsupported(&format!("modifier `{modifier}`")),
            }
        }
        let Some(op) = op.filter(|_| matches!(ty.bits(), 16 | 32 | 64)) else {
            return self.unsupported("");
        };
        if (ty.bits() == 16) != (ty == Type::B16 && op == AtomicOp::CompareExchange)
            && ty.bits() == 16
        {
            return self.unsupported("");
        }
        let (d, operands) = match (returns, operands) {
            (true, [d, rest @ ..]) => (self.destination(d)?.0, rest),
            (true, []) => return self.malformed("operands are missing"),
            (false, rest) => (self.scratch()?, rest),
        };
        let (at, values) = match operands {
            [at, values @ ..] => (at, values),
            [] => return self.malformed("operands are missing"),
        };
        let due = if op == AtomicOp::CompareExchange { 2 } else { 1 };
        if values.len() != due {
            return self.malformed(format!("{} values instead of {due}", values.len()));
        }
        let b = self.source(&values[0], ty)?;
        let c = if due == 2 { self.source(&values[1], ty)? } else { Slot::NONE };
        let (a, imm) = self.address(at)?;
        let atomic = Atomic { op, space, order, bytes: ty.bytes() as u8 };
        self.emit(Inst { d, a, b, c, imm, ..Inst::new(Code::Atomic(atomic)) });
        Ok(())
    }
}

fn atomic_op(name: &str, ty: Type) -> Option<AtomicOp> {
    Some(match (name, ty.is_float(), ty.is_signed()) {
        ("add", true, _) => AtomicOp::AddFloat,
        ("exch", _, _) => AtomicOp::Exchange,
        (_, true, _) => return None,
        ("add", _, _) => AtomicOp::Add,
        ("and", ..) => AtomicOp::And,
        ("or", ..) => AtomicOp::Or,
        ("xor", ..) => AtomicOp::Xor,
        ("cas", ..) => AtomicOp::CompareExchange,
        ("inc", ..) => AtomicOp::Increment,
        ("dec", ..) => AtomicOp::Decrement,
        ("min", _, false) => AtomicOp::MinUnsigned,
        ("max", _, false) => AtomicOp::MaxUnsigned,
        ("min", _, true) => AtomicOp::MinSigned,
        ("max", _, true) => AtomicOp::MaxSigned,
        _ => return None,
    })
}
