//! Loads, stores and read-modify-writes; and parameters, which are registers here.

use super::function::Lowering;
use super::operand::{Place, is_unwanted};
use super::scope::Binding;
use crate::ptx::PtxError;
use crate::ptx::alu::{self, Alu};
use crate::ptx::code::{Access, Atomic, AtomicOp, Code, Inst, Order, Space};
use crate::ptx::row::{Map, Slot};
use crate::ptx::syntax::{Operand, Size, Type};

/// What modifiers say of an access.
struct Modifiers {
    /// Nothing for parameters.
    space: Option<Space>,
    order: Order,
    /// Whether the order is one among the block's own threads alone.
    block: bool,
    count: u8,
    ty: Type,
}

/// What a modifier of an access is about. There is one at most of each.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    Space,
    Order,
    Scope,
    /// How it is cached, which is no matter here.
    Cache,
    ReadOnly,
    Count,
    /// What a read-modify-write does, if anything that there is.
    Operation,
}

impl About {
    fn of(modifier: &str) -> About {
        match modifier {
            "param" | "param::entry" | "param::func" | "global" | "const" | "shared"
            | "shared::cta" | "local" => About::Space,
            "weak" | "volatile" | "relaxed" | "acquire" | "release" | "acq_rel" => About::Order,
            "cta" | "gpu" | "sys" => About::Scope,
            "ca" | "cg" | "cs" | "lu" | "cv" | "wb" | "wt" => About::Cache,
            "nc" => About::ReadOnly,
            "v2" | "v4" => About::Count,
            _ => About::Operation,
        }
    }
}

impl<'a> Lowering<'_, 'a> {
    /// The modifiers, by what they are about: a function that finds them.
    fn by_subject<'m>(
        &self,
        modifiers: &[&'m str],
    ) -> Result<impl Fn(About) -> Option<&'m str> + use<'m>, PtxError> {
        let known: Vec<(About, &str)> = modifiers.iter().map(|&m| (About::of(m), m)).collect();
        for (n, (about, modifier)) in known.iter().enumerate() {
            if let Some((_, other)) = known[..n].iter().find(|(other, _)| other == about) {
                return self.malformed(format!("`.{other}` and `.{modifier}` exclude each other"));
            }
        }
        let find = move |about| known.iter().find(|(other, _)| *other == about).map(|(_, m)| *m);
        Ok(find)
    }

    /// The modifiers of a load or a store, which `caches` says the ways of caching of.
    fn modifiers(&self, modifiers: &[&str], caches: &[&str]) -> Result<Modifiers, PtxError> {
        let Some((ty, rest)) = modifiers.split_last() else {
            return self.malformed("a type is due");
        };
        let ty = self.ty(Some(ty))?;
        let find = self.by_subject(rest)?;
        if let Some(unknown) = find(About::Operation) {
            return self.unsupported(&format!("modifier `{unknown}`"));
        }
        let (space, order) = (find(About::Space), find(About::Order));
        let ordered = matches!(order, Some("relaxed" | "acquire" | "release" | "acq_rel"));
        if find(About::Scope).is_some() != ordered {
            return self.malformed("an order has a scope, and a scope an order");
        }
        let strong = ordered || order == Some("volatile");
        let cached = find(About::Cache);
        if strong && cached.is_some() || cached.is_some_and(|cache| !caches.contains(&cache)) {
            return self.malformed("it is not cached like that");
        }
        if strong && !matches!(space, None | Some("global" | "shared" | "shared::cta")) {
            return self.malformed("only accesses of global and shared memory have an order");
        }
        let plain = order.is_none() && !matches!(cached, Some("lu" | "cv"));
        if find(About::ReadOnly).is_some() && (!plain || space != Some("global")) {
            return self.malformed("only plain loads of global memory are `.nc`");
        }
        let count = match find(About::Count) {
            Some("v2") => 2,
            Some(_) => 4,
            None => 1,
        };
        if ty == Type::Pred || u32::from(count) * ty.bytes() > 16 {
            return self.malformed("at most 16 bytes are accessed at once");
        }
        let space = match space {
            None => Some(Space::Generic),
            Some("global" | "const") => Some(Space::Global),
            Some("shared" | "shared::cta") => Some(Space::Shared),
            Some("local") => Some(Space::Local),
            Some(_) => None,
        };
        let order = order.map_or(Order::Weak, strength);
        let block = find(About::Scope) == Some("cta");
        Ok(Modifiers { space, order, block, count, ty })
    }

    /// The row and the offset that a memory operand names, and which memory it is in: that of a variable,
    /// if it names one and the instruction says nothing else.
    fn address(
        &mut self,
        operand: &Operand<'a>,
        space: Space,
    ) -> Result<(Slot, i64, Space), PtxError> {
        let Operand::Memory { base, offset } = *operand else {
            return self.malformed("an address in brackets is due");
        };
        let Some(name) = base else {
            return match space {
                Space::Local => Ok((self.number(0), offset, space)),
                _ => self.malformed("only local memory has addresses that are numbers"),
            };
        };
        if let Some(Binding::Register { ty, .. }) = self.scopes.find(name) {
            let small = matches!(space, Space::Shared | Space::Local) && ty.bits() == 32;
            let due = if small { Type::U32 } else { Type::U64 };
            return Ok((self.register(name, due, Size::Same)?.0, offset, space));
        }
        let Place { slot, space: own } = self.place(name, 0)?;
        if own == Space::Generic || !matches!(space, Space::Generic) && space != own {
            return self.malformed(format!("`{name}` is not in that memory"));
        }
        Ok((slot, offset, own))
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
        const CACHES: &[&str] = &["ca", "cg", "cs", "lu", "cv"];
        let uniform = |m: &&str| matches!(*m, "global" | "v2" | "v4") || Type::named(m).is_some();
        if self.opcode.starts_with("ldu") && !modifiers.iter().all(uniform) {
            return self.unsupported("these modifiers");
        }
        let Modifiers { space, order, block, count, ty } = self.modifiers(modifiers, CACHES)?;
        let [to, from] = self.operands(operands)?;
        let elements = self.elements(to, count)?;
        let Some(space) = space else { return self.load_param(elements, from, ty) };
        if matches!(order, Order::Release | Order::Both) {
            return self.malformed("a load does not release");
        }
        let mut slots = Vec::new();
        let mut widths = Vec::new();
        for element in elements {
            if count > 1 && is_unwanted(element) {
                slots.push(self.scratch()?);
                continue;
            }
            let (slot, register) = self.sized_destination(element, ty, Size::AtLeast)?;
            widths.push(register.bits());
            slots.push(slot);
        }
        widths.dedup();
        let [width] = widths[..] else {
            return self.malformed("the elements of a vector are of one size");
        };
        let signed = ty.is_signed() && ty.bits() < width;
        let (a, imm, space) = self.address(from, space)?;
        let access = Access {
            space,
            order,
            block,
            bytes: ty.bytes() as u8,
            count,
            signed: signed.then_some(width as u8),
        };
        let d = self.listed(&slots);
        self.emit(Inst { d, a, imm, ..Inst::new(Code::Load(access)) });
        Ok(())
    }

    pub(super) fn store(
        &mut self,
        modifiers: &[&str],
        operands: &[Operand<'a>],
    ) -> Result<(), PtxError> {
        const CACHES: &[&str] = &["wb", "cg", "cs", "wt"];
        if modifiers.iter().any(|m| matches!(*m, "const" | "param::entry" | "nc")) {
            return self.malformed("nothing is stored there");
        }
        let Modifiers { space, order, block, count, ty } = self.modifiers(modifiers, CACHES)?;
        let [to, from] = self.operands(operands)?;
        let elements = self.elements(from, count)?;
        let Some(space) = space else { return self.store_param(elements, to, ty) };
        if matches!(order, Order::Acquire | Order::Both) {
            return self.malformed("a store does not acquire");
        }
        let (mut slots, mut widths) = (Vec::new(), Vec::new());
        for element in elements {
            slots.push(self.sized_source(element, ty, Size::AtLeast)?);
            if let Operand::Name { name, .. } = element
                && let Some(Binding::Register { ty, .. }) = self.scopes.find(name)
            {
                widths.push(ty.bits());
            }
        }
        widths.dedup();
        if widths.len() > 1 {
            return self.malformed("the elements of a vector are of one size");
        }
        let (a, imm, space) = self.address(to, space)?;
        let access = Access { space, order, block, bytes: ty.bytes() as u8, count, signed: None };
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
        stores: bool,
    ) -> Result<(Slot, u32), PtxError> {
        let Operand::Memory { base: Some(name), offset } = *operand else {
            return self.unsupported("an address that is no parameter's name");
        };
        let Some(Binding::Param { row, bytes, given }) = self.scopes.find(name) else {
            return Err(PtxError::Unknown { line: self.line, name: name.to_owned() });
        };
        if given && stores {
            return self.malformed(format!("`{name}` is only read"));
        }
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
            let (a, at) = self.param(from, ty, n, false)?;
            let (d, register) = match elements.len() > 1 && is_unwanted(element) {
                true => (self.scratch()?, Type::B64),
                false => self.sized_destination(element, ty, Size::AtLeast)?,
            };
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
            let (d, at) = self.param(to, ty, n, true)?;
            let value = self.sized_source(element, ty, Size::AtLeast)?;
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
        let find = self.by_subject(rest)?;
        let space = match find(About::Space) {
            None => Space::Generic,
            Some("global") => Space::Global,
            Some("shared" | "shared::cta") => Space::Shared,
            Some(_) => return self.malformed("only global and shared memory are modified so"),
        };
        let order = match find(About::Order) {
            None => Order::Relaxed,
            Some(order @ ("relaxed" | "release")) => strength(order),
            // What returns nothing acquires nothing.
            Some(order @ ("acquire" | "acq_rel")) if returns => strength(order),
            Some(order) => return self.unsupported(&format!("modifier `{order}`")),
        };
        for about in [About::Cache, About::ReadOnly, About::Count] {
            if let Some(modifier) = find(about) {
                return self.unsupported(&format!("modifier `{modifier}`"));
            }
        }
        let Some(op) = find(About::Operation).and_then(|name| atomic_op(name, ty, returns)) else {
            return self.unsupported("");
        };
        let (d, operands) = match (returns, operands) {
            (true, [d, rest @ ..]) => (self.destination_or_none(d, ty)?, rest),
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
        let (a, imm, space) = self.address(at, space)?;
        if space == Space::Local {
            return self.malformed("only global and shared memory are modified so");
        }
        let block = find(About::Scope) == Some("cta");
        let atomic = Atomic { op, space, order, block, bytes: ty.bytes() as u8 };
        self.emit(Inst { d, a, b, c, imm, ..Inst::new(Code::Atomic(atomic)) });
        Ok(())
    }
}

/// How strong an access is.
fn strength(order: &str) -> Order {
    match order {
        "relaxed" | "volatile" => Order::Relaxed,
        "acquire" => Order::Acquire,
        "release" => Order::Release,
        "acq_rel" => Order::Both,
        _ => Order::Weak,
    }
}

/// The operation of that name on words of that type, if there is one. Two of them there are only where
/// the old value is wanted.
fn atomic_op(name: &str, ty: Type, returns: bool) -> Option<AtomicOp> {
    use Type::{B16, B32, B64, F32, F64, S32, S64, U32, U64};
    Some(match (name, ty) {
        ("add", F32 | F64) => AtomicOp::AddFloat,
        ("add", U32 | S32 | U64) => AtomicOp::Add,
        ("and", B32 | B64) => AtomicOp::And,
        ("or", B32 | B64) => AtomicOp::Or,
        ("xor", B32 | B64) => AtomicOp::Xor,
        ("exch", B32 | B64) if returns => AtomicOp::Exchange,
        ("cas", B16 | B32 | B64) if returns => AtomicOp::CompareExchange,
        ("inc", U32) => AtomicOp::Increment,
        ("dec", U32) => AtomicOp::Decrement,
        ("min", U32 | U64) => AtomicOp::MinUnsigned,
        ("max", U32 | U64) => AtomicOp::MaxUnsigned,
        ("min", S32 | S64) => AtomicOp::MinSigned,
        ("max", S32 | S64) => AtomicOp::MaxSigned,
        _ => return None,
    })
}
