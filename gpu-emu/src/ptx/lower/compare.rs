//! Comparisons, and what chooses by them.

use super::function::Lowering;
use super::truncated;
use crate::ptx::PtxError;
use crate::ptx::alu;
use crate::ptx::row::{Map, Slot};
use crate::ptx::syntax::{Operand, Type};

impl<'a> Lowering<'_, 'a> {
    /// `setp.lt.and.u32 p|q, a, b, c`: p = (a < b) and c, q = !(a < b) and c.
    pub(super) fn set_predicate(
        &mut self,
        modifiers: &[&str],
        operands: &[Operand<'a>],
    ) -> Result<(), PtxError> {
        let ty = self.ty(modifiers.last())?;
        let (flushes, how) = without_ftz(&modifiers[..modifiers.len() - 1]);
        if flushes && ty != Type::F32 {
            return self.unsupported("`.ftz`");
        }
        let (how, combined) = match how[..] {
            [how] => (how, None),
            [how, with] => match alu::combine(with) {
                Some(map) => (how, Some(map)),
                None => return self.unsupported(""),
            },
            _ => return self.unsupported(""),
        };
        let Some(compare) = alu::compare(how, ty) else { return self.unsupported("") };
        let due = if combined.is_some() { 4 } else { 3 };
        if operands.len() != due {
            return self.malformed(format!("{} operands instead of {due}", operands.len()));
        }
        let (p, q) = match operands[0] {
            Operand::Pair(p, q) => {
                let q = if q == "_" { None } else { Some(self.predicate(q)?) };
                let p = if p == "_" { self.scratch()? } else { self.predicate(p)? };
                (p, q)
            }
            Operand::Name { name: "_", .. } => (self.scratch()?, None),
            Operand::Name { name, offset: 0 } => (self.predicate(name)?, None),
            _ => return self.malformed("the result goes to a predicate"),
        };
        let (mut a, mut b) = (self.source(&operands[1], ty)?, self.source(&operands[2], ty)?);
        if flushes {
            (a, b) = (self.flushed(a)?, self.flushed(b)?);
        }
        if combined.is_none() && q.is_none() {
            self.emit_map(compare, p, [a, b, Slot::NONE, Slot::NONE]);
            return Ok(());
        }
        let result = self.scratch()?;
        self.emit_map(compare, result, [a, b, Slot::NONE, Slot::NONE]);
        let other = match combined {
            Some(_) => {
                let c = self.source(&operands[3], Type::Pred)?;
                // Kept apart: `p` may be the very predicate.
                let other = self.scratch()?;
                self.copy(other, c)?;
                Some(other)
            }
            None => None,
        };
        if let Some(q) = q {
            let opposite = self.scratch()?;
            let not = self.map("not", &[], Type::Pred)?;
            self.emit_map_part(not, opposite, [result, Slot::NONE, Slot::NONE, Slot::NONE]);
            self.finish_predicate(q, opposite, combined.zip(other))?;
        }
        self.finish_predicate(p, result, combined.zip(other))
    }

    fn finish_predicate(
        &mut self,
        d: Slot,
        result: Slot,
        combined: Option<(Map, Slot)>,
    ) -> Result<(), PtxError> {
        match combined {
            Some((map, other)) => {
                self.emit_map_part(map, d, [result, other, Slot::NONE, Slot::NONE]);
                Ok(())
            }
            None => self.copy(d, result),
        }
    }

    /// `set.lt.u32.s32 d, a, b`: all ones, or 1.0, where the comparison holds.
    pub(super) fn set(
        &mut self,
        modifiers: &[&str],
        operands: &[Operand<'a>],
    ) -> Result<(), PtxError> {
        let [how, to, from] = *modifiers else { return self.unsupported("") };
        let (to, from) = (self.ty(Some(&to))?, self.ty(Some(&from))?);
        let [d, a, b] = self.operands(operands)?;
        let d = self.destination(d, to)?;
        let (a, b) = (self.source(a, from)?, self.source(b, from)?);
        let (Some(compare), Type::U32 | Type::S32 | Type::F32) = (alu::compare(how, from), to)
        else {
            return self.unsupported("");
        };
        let predicate = self.scratch()?;
        self.emit_map_part(compare, predicate, [a, b, Slot::NONE, Slot::NONE]);
        let yes = match to {
            Type::F32 => 1f32.to_bits().into(),
            _ => truncated(u64::MAX, to),
        };
        let (yes, no) = (self.number(yes), self.number(0));
        let select = self.map("selp", &[], Type::B64)?;
        self.emit_map(select, d, [yes, no, predicate, Slot::NONE]);
        Ok(())
    }

    /// `slct.u32.s32 d, a, b, c`: a where c is not negative, else b.
    pub(super) fn select(
        &mut self,
        modifiers: &[&str],
        operands: &[Operand<'a>],
    ) -> Result<(), PtxError> {
        let (flushes, how) = without_ftz(modifiers);
        let [ty, by] = how[..] else { return self.unsupported("") };
        let (ty, by) = (self.ty(Some(&ty))?, self.ty(Some(&by))?);
        if flushes && by != Type::F32 {
            return self.unsupported("`.ftz`");
        }
        let [d, a, b, c] = self.operands(operands)?;
        let d = self.destination(d, ty)?;
        let (a, b, mut c) = (self.source(a, ty)?, self.source(b, ty)?, self.source(c, by)?);
        if flushes {
            c = self.flushed(c)?;
        }
        let (Some(compare), Type::S32 | Type::F32) = (alu::compare("ge", by), by) else {
            return self.unsupported("");
        };
        let predicate = self.scratch()?;
        let zero = self.number(0);
        self.emit_map_part(compare, predicate, [c, zero, Slot::NONE, Slot::NONE]);
        let select = self.map("selp", &[], ty)?;
        self.emit_map(select, d, [a, b, predicate, Slot::NONE]);
        Ok(())
    }
}

/// Whether `.ftz` is among modifiers, and the others.
fn without_ftz<'m>(modifiers: &[&'m str]) -> (bool, Vec<&'m str>) {
    let others: Vec<&str> = modifiers.iter().copied().filter(|&m| m != "ftz").collect();
    (others.len() < modifiers.len(), others)
}
