//! Branches, calls, barriers, and what lanes do together.

use super::Symbol;
use super::function::Lowering;
use super::scope::Binding;
use crate::ptx::PtxError;
use crate::ptx::code::{
    AtomicOp, Barrier, CallSite, Code, Inst, Meet, Shuffle, Signature, Vote, rows_of,
};
use crate::ptx::row::Slot;
use crate::ptx::syntax::{Operand, Size, Type};

impl<'a> Lowering<'_, 'a> {
    pub(super) fn branch(
        &mut self,
        operands: &[Operand<'a>],
        condition: Option<(Slot, bool)>,
    ) -> Result<(), PtxError> {
        let [Operand::Name { name, offset: 0 }] = self.operands(operands)? else {
            return self.malformed("a label is due");
        };
        let inst = match condition {
            Some((a, when)) => {
                let code = match self.is_uniform() {
                    true => Code::BranchUniform { when },
                    false => Code::BranchIf { when },
                };
                Inst { a, ..Inst::new(code) }
            }
            None => Inst::new(Code::Branch),
        };
        self.emit_jump(inst, name);
        Ok(())
    }

    /// Whether the instruction says that lanes that run together go the same way.
    fn is_uniform(&self) -> bool {
        self.opcode.ends_with(".uni")
    }

    pub(super) fn indexed_branch(&mut self, operands: &[Operand<'a>]) -> Result<(), PtxError> {
        let [index, Operand::Name { name, offset: 0 }] = self.operands(operands)? else {
            return self.malformed("a list of labels is due");
        };
        let Some(&table) = self.tables.get(name) else {
            return Err(PtxError::Unknown { line: self.line, name: (*name).to_owned() });
        };
        let a = self.source(index, Type::U32)?;
        let code = Code::BranchIndexed { uniform: self.is_uniform() };
        self.emit(Inst { a, imm: table as i64, ..Inst::new(code) });
        Ok(())
    }

    /// `call (results), function, (arguments), prototype`, the lists and the prototype optional.
    pub(super) fn call(&mut self, operands: &[Operand<'a>]) -> Result<(), PtxError> {
        let (results, rest) = match operands {
            [Operand::List(names), rest @ ..] => (&names[..], rest),
            rest => (&[][..], rest),
        };
        let [Operand::Name { name, offset: 0 }, rest @ ..] = rest else {
            return self.malformed("a function is due");
        };
        let (arguments, rest) = match rest {
            [Operand::List(names), rest @ ..] => (&names[..], rest),
            rest => (&[][..], rest),
        };
        let (callee, signature, a) = match (self.scopes.find(name), rest) {
            (Some(Binding::Register { .. }), [Operand::Name { name: prototype, .. }]) => {
                let (a, _) = self.register(name, Type::U64, Size::Same)?;
                let Some(signature) = self.prototypes.get(prototype) else {
                    let name = (*prototype).to_owned();
                    return Err(PtxError::Unknown { line: self.line, name });
                };
                (None, signature.clone(), a)
            }
            (None, []) => match self.linker.symbols.get(name) {
                Some(&Symbol::Function(number)) => {
                    if self.linker.functions[number as usize].kernel {
                        return self.malformed(format!("`{name}` is a kernel"));
                    }
                    let signature = &self.linker.functions[number as usize].signature;
                    (Some(number), signature.clone(), Slot::NONE)
                }
                _ => return Err(PtxError::Unknown { line: self.line, name: (*name).to_owned() }),
            },
            _ => {
                return self
                    .malformed("what is called is a function, or a register and a prototype");
            }
        };
        let site = self.call_site(callee, signature, arguments, results)?;
        let imm = self.linker.calls.len() as i64;
        self.linker.calls.push(site);
        let code = match callee {
            Some(_) => Code::Call,
            None => Code::CallIndirect { uniform: self.is_uniform() },
        };
        self.emit(Inst { a, imm, ..Inst::new(code) });
        Ok(())
    }

    fn call_site(
        &self,
        callee: Option<u32>,
        signature: Signature,
        arguments: &[&'a str],
        results: &[&'a str],
    ) -> Result<CallSite, PtxError> {
        let names = arguments.iter().chain(results);
        let sizes = signature.params.iter().chain(&signature.results);
        if arguments.len() != signature.params.len() || results.len() != signature.results.len() {
            return self.malformed(format!(
                "{} arguments and {} results instead of {} and {}",
                arguments.len(),
                results.len(),
                signature.params.len(),
                signature.results.len()
            ));
        }
        let (rows, _) = signature.rows();
        let mut moves = Vec::new();
        let mut passed = 0;
        for (n, ((name, &bytes), there)) in names.zip(sizes).zip(rows).enumerate() {
            let here = match self.scopes.find(name) {
                Some(Binding::Param { row, bytes: here, .. }) if here == bytes => row,
                Some(Binding::Param { bytes: here, .. }) => {
                    return self
                        .malformed(format!("`{name}` has {here} bytes where {bytes} are due"));
                }
                _ => return self.unsupported("arguments that are no `.param` variables"),
            };
            moves.extend((0..rows_of(bytes)).map(|row| (here + row, there + row)));
            if n < arguments.len() {
                passed = moves.len();
            }
        }
        let results = moves.split_off(passed).into_iter().map(|(here, there)| (there, here));
        let results = results.collect();
        Ok(CallSite { callee, signature, arguments: moves, results, caller: self.number })
    }

    /// `bar.sync a, b`, `barrier.arrive`, `bar.red`, `bar.warp.sync`.
    pub(super) fn barrier(
        &mut self,
        modifiers: &[&str],
        operands: &[Operand<'a>],
    ) -> Result<(), PtxError> {
        let mut modifiers: Vec<&str> = modifiers.to_vec();
        let bar = self.opcode.starts_with("bar.");
        if bar && modifiers == ["warp", "sync"] {
            let [mask] = self.operands(operands)?;
            let e = self.source(mask, Type::U32)?;
            self.emit(Inst { e, ..Inst::new(Code::Meet(Meet::Sync)) });
            return Ok(());
        }
        modifiers.retain(|&m| m != "cta");
        let aligned = bar || modifiers.contains(&"aligned");
        if !bar {
            modifiers.retain(|&m| m != "aligned");
        }
        let mut barrier = Barrier { counted: false, waits: true, aligned, reduction: None };
        let (mut d, mut predicate) = (Slot::NONE, Slot::NONE);
        let named = match modifiers[..] {
            ["sync"] => operands,
            ["arrive"] => {
                barrier.waits = false;
                operands
            }
            ["red", how, ty] => {
                let (vote, result) = match (how, ty) {
                    ("popc", "u32") => (Vote::Ballot, Type::U32),
                    ("and", "pred") => (Vote::All, Type::Pred),
                    ("or", "pred") => (Vote::Any, Type::Pred),
                    _ => return self.unsupported(""),
                };
                barrier.reduction = Some(vote);
                let [to, middle @ .., value] = operands else {
                    return self.malformed("operands are missing");
                };
                d = self.destination(to, result)?;
                predicate = self.source(value, Type::Pred)?;
                middle
            }
            _ => return self.unsupported(""),
        };
        let (a, b) = match named {
            [a] => (self.source(a, Type::U32)?, Slot::NONE),
            [a, b] => {
                barrier.counted = true;
                (self.source(a, Type::U32)?, self.source(b, Type::U32)?)
            }
            _ => return self.malformed("the number of a barrier is due"),
        };
        if !barrier.waits && !barrier.counted {
            return self.malformed("who only arrives says how many threads take part");
        }
        self.emit(Inst { d, a, b, c: predicate, ..Inst::new(Code::Barrier(barrier)) });
        Ok(())
    }

    pub(super) fn meet(
        &mut self,
        name: &str,
        modifiers: &[&str],
        operands: &[Operand<'a>],
    ) -> Result<(), PtxError> {
        let Some((values, mask)) = operands.split_last().map(|(mask, values)| (values, mask))
        else {
            return self.malformed("operands are missing");
        };
        let e = self.source(mask, Type::U32)?;
        // What it is, the types of its result and of what is exchanged, and how many operands it has.
        let (meet, result, ty, count) = match (name, modifiers) {
            ("vote", ["sync", how, ty]) => {
                let (vote, result) = match (*how, *ty) {
                    ("all", "pred") => (Vote::All, Type::Pred),
                    ("any", "pred") => (Vote::Any, Type::Pred),
                    ("uni", "pred") => (Vote::Uniform, Type::Pred),
                    ("ballot", "b32") => (Vote::Ballot, Type::B32),
                    _ => return self.unsupported(""),
                };
                (Meet::Vote(vote), result, Type::Pred, 1)
            }
            ("shfl", ["sync", how, "b32"]) => {
                let shuffle = match *how {
                    "up" => Shuffle::Up,
                    "down" => Shuffle::Down,
                    "bfly" => Shuffle::Butterfly,
                    "idx" => Shuffle::Index,
                    _ => return self.unsupported(""),
                };
                (Meet::Shuffle(shuffle), Type::B32, Type::B32, 3)
            }
            ("match", [how @ ("any" | "all"), "sync", ty @ ("b32" | "b64")]) => {
                let ty = self.ty(Some(ty))?;
                let bits = ty.bits() as u8;
                let any = *how == "any";
                let meet = if any { Meet::MatchAny { bits } } else { Meet::MatchAll { bits } };
                (meet, Type::U32, ty, 1)
            }
            ("redux", ["sync", how, ty]) => {
                let op = match (*how, *ty) {
                    ("add", "u32" | "s32") => AtomicOp::Add,
                    ("and", "b32") => AtomicOp::And,
                    ("or", "b32") => AtomicOp::Or,
                    ("xor", "b32") => AtomicOp::Xor,
                    ("min", "u32") => AtomicOp::MinUnsigned,
                    ("max", "u32") => AtomicOp::MaxUnsigned,
                    ("min", "s32") => AtomicOp::MinSigned,
                    ("max", "s32") => AtomicOp::MaxSigned,
                    _ => return self.unsupported(""),
                };
                let ty = self.ty(Some(ty))?;
                (Meet::Reduce(op), ty, ty, 1)
            }
            _ => return self.unsupported(""),
        };
        let (d, predicate) = match values.first() {
            Some(Operand::Pair(d, p)) => {
                if !matches!(meet, Meet::Shuffle(_) | Meet::MatchAll { .. }) {
                    return self.malformed("it has no second result");
                }
                let d = match (*d, meet) {
                    ("_", Meet::MatchAll { .. }) => self.scratch()?,
                    _ => self.register(d, result, Size::Same)?.0,
                };
                let p = if *p == "_" { self.scratch()? } else { self.predicate(p)? };
                (d, i64::from(p.number() as u32) + 1)
            }
            Some(d) => (self.destination(d, result)?, 0),
            None => return self.malformed("operands are missing"),
        };
        let values = &values[1..];
        if values.len() != count {
            return self.malformed(format!("{} values instead of {count}", values.len()));
        }
        let mut slots = [Slot::NONE; 3];
        for (n, (slot, value)) in slots.iter_mut().zip(values).enumerate() {
            *slot = self.source(value, if n == 0 { ty } else { Type::B32 })?;
        }
        let [a, b, c] = slots;
        self.emit(Inst { d, a, b, c, e, imm: predicate, ..Inst::new(Code::Meet(meet)) });
        Ok(())
    }
}
