//! Instructions that compute, and the way to all others.

use super::function::Lowering;
use super::operand::{Place, is_unwanted};
use crate::ptx::PtxError;
use crate::ptx::alu;
use crate::ptx::code::{Code, Inst, Space};
use crate::ptx::row::{Bank, Map, Slot};
use crate::ptx::space;
use crate::ptx::special::Special;
use crate::ptx::syntax::{Instruction, Operand, Size, Type};

impl<'a> Lowering<'_, 'a> {
    pub(super) fn instruction(&mut self, instruction: &Instruction<'a>) -> Result<(), PtxError> {
        let mut parts = instruction.opcode.split('.');
        let name = parts.next().unwrap_or_default();
        let modifiers: Vec<&str> = parts.collect();
        let operands = &instruction.operands[..];
        self.exists(name, &modifiers)?;
        match name {
            "ld" | "ldu" => self.load(&modifiers, operands),
            "st" => self.store(&modifiers, operands),
            "atom" => self.atomic(&modifiers, operands, true),
            "red" => self.atomic(&modifiers, operands, false),
            "prefetch" | "prefetchu" | "applypriority" | "pmevent" => {
                self.hint(name, &modifiers, operands)
            }
            "bra" | "brx" | "call" | "ret" | "exit" | "trap" | "brkpt" | "activemask"
            | "nanosleep" | "fence" | "membar"
                if !known(name, &modifiers) =>
            {
                self.unsupported("these modifiers")
            }
            "fence" | "membar" => self.plain(Code::Fence, operands),
            "bra" => self.branch(operands, None),
            "brx" => self.indexed_branch(operands),
            "call" => self.call(operands),
            "ret" => self.plain(Code::Return, operands),
            "exit" => self.plain(Code::Exit, operands),
            "trap" | "brkpt" => self.plain(Code::Trap, operands),
            "bar" | "barrier" => self.barrier(&modifiers, operands),
            "vote" | "shfl" | "match" | "redux" => self.meet(name, &modifiers, operands),
            "activemask" => {
                let [d] = self.operands(operands)?;
                let d = self.destination(d, Type::B32)?;
                self.emit(Inst { d, ..Inst::new(Code::ActiveMask) });
                Ok(())
            }
            "nanosleep" => {
                let [a] = self.operands(operands)?;
                let a = self.source(a, Type::U32)?;
                self.emit(Inst { a, ..Inst::new(Code::Sleep) });
                Ok(())
            }
            "mov" => self.mov(&modifiers, operands),
            "cvta" => self.convert_address(&modifiers, operands),
            "isspacep" => self.is_space(&modifiers, operands),
            "cvt" => self.convert(&modifiers, operands),
            "setp" => self.set_predicate(&modifiers, operands),
            "set" => self.set(&modifiers, operands),
            "slct" => self.select(&modifiers, operands),
            "prmt" => self.permute(&modifiers, operands),
            "lop3" => self.table(&modifiers, operands),
            _ => self.compute(name, &modifiers, operands),
        }
    }

    /// Fails for what the module's version of PTX or its architecture does not have yet.
    fn exists(&self, name: &str, modifiers: &[&str]) -> Result<(), PtxError> {
        let has = |modifier| modifiers.contains(&modifier);
        match name {
            "activemask" | "nanosleep" => self.since(62, 0),
            "atom" if has("b16") => self.since(63, 0),
            "tanh" => self.since(70, 75),
            "redux" => self.since(70, 80),
            "min" | "max" if has("NaN") => self.since(70, 80),
            "applypriority" if has("L2::evict_normal") => self.since(74, 80),
            "prefetch" if has("L2::evict_last") || has("L2::evict_normal") => self.since(74, 80),
            "bar" | "barrier" if has("cta") => self.since(78, 0),
            _ if has("shared::cta") => self.since(78, 0),
            _ if has("param::entry") || has("param::func") => self.since(83, 0),
            _ => Ok(()),
        }
    }

    fn plain(&mut self, code: Code, operands: &[Operand<'a>]) -> Result<(), PtxError> {
        let [] = self.operands(operands)?;
        self.emit(Inst::new(code));
        Ok(())
    }

    /// What a kernel computes does not depend on it, so nothing is done. (`discard` is none: what it
    /// discards is not to be read again.)
    fn hint(
        &self,
        name: &str,
        modifiers: &[&str],
        operands: &[Operand<'a>],
    ) -> Result<(), PtxError> {
        let due = match (name, modifiers) {
            ("prefetch", ["L1" | "L2"] | ["global" | "local", "L1" | "L2"]) => 1,
            ("prefetch", ["global", "L2::evict_last" | "L2::evict_normal"]) => 1,
            ("prefetchu", ["L1"]) => 1,
            ("applypriority", ["L2::evict_normal"] | ["global", "L2::evict_normal"]) => 2,
            ("pmevent", [] | ["mask"]) => 1,
            _ => return self.unsupported("these modifiers"),
        };
        match operands.len() {
            given if given == due => Ok(()),
            given => self.malformed(format!("{given} operands instead of {due}")),
        }
    }

    /// The type that a modifier names.
    pub(super) fn ty(&self, modifier: Option<&&str>) -> Result<Type, PtxError> {
        match modifier.copied().and_then(Type::named) {
            Some(ty) => Ok(ty),
            None => self.unsupported(&format!("type `{}`", modifier.copied().unwrap_or("(none)"))),
        }
    }

    /// What concerns registers alone.
    fn compute(
        &mut self,
        name: &'a str,
        modifiers: &[&str],
        operands: &[Operand<'a>],
    ) -> Result<(), PtxError> {
        let ty = self.ty(modifiers.last())?;
        let rest = &modifiers[..modifiers.len().saturating_sub(1)];
        match (name, rest) {
            ("add" | "sub", ["cc"]) => return self.carrying(name, ty, operands, false),
            ("addc" | "subc", []) => return self.with_carry(name, ty, operands),
            ("addc" | "subc", ["cc"]) => return self.carrying(&name[..3], ty, operands, true),
            _ => {}
        }
        let Some(alu) = alu::find(name, rest, ty) else { return self.unsupported("") };
        let Some((d, sources)) = operands.split_first() else {
            return self.malformed("operands are missing");
        };
        if sources.len() != alu.count {
            return self.malformed(format!(
                "{} operands instead of {}",
                operands.len(),
                alu.count + 1
            ));
        }
        let d = self.destination(d, alu.result)?;
        let mut slots = [Slot::NONE; 4];
        for ((slot, operand), ty) in slots.iter_mut().zip(sources).zip(alu.operands) {
            *slot = self.source(operand, ty)?;
            if alu.flushes {
                *slot = self.flushed(*slot)?;
            }
        }
        self.emit_map(alu.map, d, slots);
        if alu.flushes {
            self.emit_map_part(alu::flush(), d, [d, Slot::NONE, Slot::NONE, Slot::NONE]);
        }
        Ok(())
    }

    /// `prmt.b32.f4e d, a, b, c`: the mode comes after the type.
    fn permute(&mut self, modifiers: &[&str], operands: &[Operand<'a>]) -> Result<(), PtxError> {
        match *modifiers {
            [ty, mode] => self.compute("prmt", &[mode, ty], operands),
            _ => self.compute("prmt", modifiers, operands),
        }
    }

    /// `lop3.b32 d, a, b, c, table`.
    fn table(&mut self, modifiers: &[&str], operands: &[Operand<'a>]) -> Result<(), PtxError> {
        match operands.last() {
            Some(Operand::Int(0..=0xff)) => self.compute("lop3", modifiers, operands),
            _ => self.malformed("a table is a number of at most 255"),
        }
    }

    /// An operand of an instruction with `.ftz`.
    pub(super) fn flushed(&mut self, a: Slot) -> Result<Slot, PtxError> {
        let d = self.scratch()?;
        self.emit_map_part(alu::flush(), d, [a, Slot::NONE, Slot::NONE, Slot::NONE]);
        Ok(d)
    }

    pub(super) fn emit_map(&mut self, map: Map, d: Slot, [a, b, c, e]: [Slot; 4]) {
        self.emit(Inst { d, a, b, c, e, ..Inst::new(Code::Map(map)) });
    }

    /// A part of an instruction that some other part counts for.
    pub(super) fn emit_map_part(&mut self, map: Map, d: Slot, [a, b, c, e]: [Slot; 4]) {
        self.emit_part(Inst { d, a, b, c, e, ..Inst::new(Code::Map(map)) });
    }

    pub(super) fn map(&self, name: &str, modifiers: &[&str], ty: Type) -> Result<Map, PtxError> {
        match alu::find(name, modifiers, ty) {
            Some(alu) => Ok(alu.map),
            None => self.unsupported(""),
        }
    }

    /// Sums and differences that leave a carry, after taking one or not.
    fn carrying(
        &mut self,
        name: &str,
        ty: Type,
        operands: &[Operand<'a>],
        takes: bool,
    ) -> Result<(), PtxError> {
        let [d, a, b] = self.operands(operands)?;
        let d = self.destination(d, ty)?;
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let taken = if takes { self.carry } else { self.number(0) };
        let with_carry = if name == "add" { "addc" } else { "subc" };
        let out = self.scratch()?;
        let carry = self.map(with_carry, &["carry"], ty)?;
        let sum = self.map(with_carry, &[], ty)?;
        // The carry first: the result may overwrite an operand.
        self.emit_map_part(carry, out, [a, b, taken, Slot::NONE]);
        self.emit_map(sum, d, [a, b, taken, Slot::NONE]);
        self.copy(self.carry, out)
    }

    fn with_carry(
        &mut self,
        name: &str,
        ty: Type,
        operands: &[Operand<'a>],
    ) -> Result<(), PtxError> {
        let [d, a, b] = self.operands(operands)?;
        let d = self.destination(d, ty)?;
        let (a, b) = (self.source(a, ty)?, self.source(b, ty)?);
        let map = self.map(name, &[], ty)?;
        self.emit_map(map, d, [a, b, self.carry, Slot::NONE]);
        Ok(())
    }

    pub(super) fn copy(&mut self, d: Slot, a: Slot) -> Result<(), PtxError> {
        let map = self.map("mov", &[], Type::B64)?;
        self.emit_map_part(map, d, [a, Slot::NONE, Slot::NONE, Slot::NONE]);
        Ok(())
    }

    /// Of registers, numbers, addresses, and of parts into wholes and back.
    fn mov(&mut self, modifiers: &[&str], operands: &[Operand<'a>]) -> Result<(), PtxError> {
        let ty = self.ty(modifiers.last())?;
        if modifiers.len() != 1 {
            return self.unsupported("");
        }
        let [d, a] = self.operands(operands)?;
        match (d, a) {
            (Operand::Vector(parts), whole) => {
                let part = self.part(ty, parts.len())?;
                if parts.iter().all(is_unwanted) {
                    return self.malformed("one of the parts is wanted");
                }
                let whole = self.source(whole, ty)?;
                // The first part may be the very register that the others are taken from.
                let copy = self.scratch()?;
                self.copy(copy, whole)?;
                let field = self.map("bfe", &[], Type::U64)?;
                let length = self.number(part.bits().into());
                for (n, d) in parts.iter().enumerate() {
                    let d = self.destination_or_none(d, part)?;
                    let at = self.number(n as u64 * u64::from(part.bits()));
                    let slots = [copy, at, length, Slot::NONE];
                    if n == 0 {
                        self.emit_map(field, d, slots)
                    } else {
                        self.emit_map_part(field, d, slots)
                    }
                }
                Ok(())
            }
            (d, Operand::Vector(parts)) => {
                let part = self.part(ty, parts.len())?;
                let d = self.destination(d, ty)?;
                let whole = self.scratch()?;
                let zero = self.number(0);
                self.copy(whole, zero)?;
                let insert = self.map("bfi", &[], Type::B64)?;
                let length = self.number(part.bits().into());
                for (n, a) in parts.iter().enumerate() {
                    if let Operand::Name { name, .. } = a
                        && self.is_place(name)
                    {
                        return self.malformed(format!("`{name}` is no register"));
                    }
                    let a = self.source(a, part)?;
                    let at = self.number(n as u64 * u64::from(part.bits()));
                    self.emit_map_part(insert, whole, [a, whole, at, length]);
                }
                let mov = self.map("mov", &[], Type::B64)?;
                self.emit_map(mov, d, [whole, Slot::NONE, Slot::NONE, Slot::NONE]);
                Ok(())
            }
            (d, a) => {
                let map = self.map("mov", &[], ty)?;
                let (d, a) = (self.destination(d, ty)?, self.source(a, ty)?);
                self.emit_map(map, d, [a, Slot::NONE, Slot::NONE, Slot::NONE]);
                Ok(())
            }
        }
    }

    /// The type of each of so many parts of a whole.
    fn part(&self, whole: Type, parts: usize) -> Result<Type, PtxError> {
        match (whole, parts) {
            (Type::B64, 2) => Ok(Type::B32),
            (Type::B64, 4) | (Type::B32, 2) => Ok(Type::B16),
            _ => self.malformed("a whole has parts of 16 or 32 bits"),
        }
    }

    /// Between generic addresses and those of a space.
    fn convert_address(
        &mut self,
        modifiers: &[&str],
        operands: &[Operand<'a>],
    ) -> Result<(), PtxError> {
        let [d, a] = self.operands(operands)?;
        let d = self.destination(d, Type::U64)?;
        let (to, spaces) = match modifiers {
            ["to", rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let [space, "u64"] = *spaces else { return self.unsupported("") };
        let (space, base) = match space {
            "global" | "const" => (Space::Global, self.number(0)),
            "shared" | "shared::cta" => (Space::Shared, self.number(space::SHARED)),
            "local" => (Space::Local, Slot::new(Bank::Special, Special::LocalWindow as u32)),
            _ => return self.unsupported(""),
        };
        let a = match *a {
            Operand::Name { name, offset } if !to && self.is_place(name) => {
                let Place { slot, space: own } = self.place(name, offset)?;
                if own != space {
                    return self.malformed(format!("`{name}` is not in that memory"));
                }
                slot
            }
            _ => self.source(a, Type::U64)?,
        };
        let map = self.map(if to { "sub" } else { "add" }, &[], Type::U64)?;
        self.emit_map(map, d, [a, base, Slot::NONE, Slot::NONE]);
        Ok(())
    }

    fn is_space(&mut self, modifiers: &[&str], operands: &[Operand<'a>]) -> Result<(), PtxError> {
        let [d, a] = self.operands(operands)?;
        let (d, a) = (self.destination(d, Type::Pred)?, self.source(a, Type::U64)?);
        let space = match modifiers {
            ["global"] => Space::Global,
            ["shared" | "shared::cta"] => Space::Shared,
            ["local"] => Space::Local,
            _ => return self.unsupported(""),
        };
        self.emit(Inst { d, a, ..Inst::new(Code::IsSpace(space)) });
        Ok(())
    }

    fn convert(&mut self, modifiers: &[&str], operands: &[Operand<'a>]) -> Result<(), PtxError> {
        let [how @ .., to, from] = modifiers else { return self.malformed("two types are due") };
        let (to, from) = (self.ty(Some(to))?, self.ty(Some(from))?);
        let [d, a] = self.operands(operands)?;
        let (d, register) = self.sized_destination(d, to, Size::AtLeast)?;
        if let Operand::Name { name, .. } = a
            && to.is_float()
            && self.is_special(name)
        {
            return self.malformed(format!("`{name}` becomes no floating-point number"));
        }
        let a = self.sized_source(a, from, Size::AtLeast)?;
        let Some(steps) = alu::convert(how, to, from, register.bits()) else {
            return self.unsupported("");
        };
        let last = steps.len() - 1;
        for (n, step) in steps.into_iter().enumerate() {
            let [b, c] = step.numbers.map(|number| self.number(number));
            let slots = [if n == 0 { a } else { d }, b, c, Slot::NONE];
            if n == last {
                self.emit_map(step.map, d, slots)
            } else {
                self.emit_map_part(step.map, d, slots)
            }
        }
        Ok(())
    }
}

/// Whether an instruction that does the same with all the modifiers it may have has no others. Every
/// fence is the strongest here, for the whole system; those of proxies are about memory that there is
/// none of.
fn known(name: &str, modifiers: &[&str]) -> bool {
    match name {
        "fence" => matches!(
            modifiers,
            ["sc" | "acq_rel" | "acquire" | "release", "cta" | "gpu" | "sys"]
                | ["cta" | "gpu" | "sys"]
        ),
        "membar" => matches!(modifiers, ["cta" | "gl" | "sys"]),
        "bra" | "call" | "ret" => matches!(modifiers, [] | ["uni"]),
        "brx" => matches!(modifiers, ["idx"] | ["idx", "uni"]),
        "activemask" => modifiers == ["b32"],
        "nanosleep" => modifiers == ["u32"],
        _ => modifiers.is_empty(),
    }
}
