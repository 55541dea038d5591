//! What a module's text says.

use gpu_rt::Dim3;

/// What a module is for.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::ptx) struct Machine {
    /// The version of PTX, times ten.
    pub(in crate::ptx) version: u32,
    /// The architecture: 70 for sm_70.
    pub(in crate::ptx) sm: u32,
}

/// A module.
#[derive(Debug, Default)]
pub(in crate::ptx) struct Source<'a> {
    pub(in crate::ptx) machine: Machine,
    pub(in crate::ptx) variables: Vec<Variable<'a>>,
    pub(in crate::ptx) functions: Vec<Function<'a>>,
}

/// The type of a register, a variable or an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ptx) enum Type {
    Pred,
    B8,
    B16,
    B32,
    B64,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F32,
    F64,
}

impl Type {
    /// By its name, without the dot.
    pub(in crate::ptx) fn named(name: &str) -> Option<Type> {
        Some(match name {
            "pred" => Type::Pred,
            "b8" => Type::B8,
            "b16" => Type::B16,
            "b32" => Type::B32,
            "b64" => Type::B64,
            "u8" => Type::U8,
            "u16" => Type::U16,
            "u32" => Type::U32,
            "u64" => Type::U64,
            "s8" => Type::S8,
            "s16" => Type::S16,
            "s32" => Type::S32,
            "s64" => Type::S64,
            "f32" => Type::F32,
            "f64" => Type::F64,
            _ => return None,
        })
    }

    /// Bits of a value; 1 for a predicate.
    pub(in crate::ptx) fn bits(self) -> u32 {
        match self {
            Type::Pred => 1,
            Type::B8 | Type::U8 | Type::S8 => 8,
            Type::B16 | Type::U16 | Type::S16 => 16,
            Type::B32 | Type::U32 | Type::S32 | Type::F32 => 32,
            Type::B64 | Type::U64 | Type::S64 | Type::F64 => 64,
        }
    }

    /// Bytes of a value in memory.
    pub(in crate::ptx) fn bytes(self) -> u32 {
        self.bits().div_ceil(8)
    }

    /// Whether a register may be an operand of an instruction of this type: it has the size, or at least
    /// that, and is of the same kind, unless one of the two is no more than bits.
    pub(in crate::ptx) fn is_held_by(self, register: Type, size: Size) -> bool {
        let fits = match size {
            Size::Same => register.bits() == self.bits(),
            Size::AtLeast => register.bits() >= self.bits(),
        };
        fits && match (self, register) {
            (Type::Pred, _) | (_, Type::Pred) => self == register,
            _ if self.is_integer() => !register.is_float(),
            // Wider or narrower, it would be another number.
            _ if self.is_float() => register == self || register.is_bits(),
            _ => true,
        }
    }

    /// Whether it is neither of numbers nor of predicates.
    fn is_bits(self) -> bool {
        !(self.is_integer() || self.is_float() || self == Type::Pred)
    }

    pub(in crate::ptx) fn is_signed(self) -> bool {
        matches!(self, Type::S8 | Type::S16 | Type::S32 | Type::S64)
    }

    pub(in crate::ptx) fn is_integer(self) -> bool {
        self.is_signed() || matches!(self, Type::U8 | Type::U16 | Type::U32 | Type::U64)
    }

    pub(in crate::ptx) fn is_float(self) -> bool {
        matches!(self, Type::F32 | Type::F64)
    }
}

/// By its name, without the dot.
impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

/// What sizes registers may have that are operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ptx) enum Size {
    Same,
    /// As for loads, stores and conversions.
    AtLeast,
}

/// Where a variable lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ptx) enum Space {
    Reg,
    Param,
    Local,
    Shared,
    /// Constant variables are global ones.
    Global,
}

/// A declared variable, or a family of registers.
#[derive(Clone, Debug)]
pub(in crate::ptx) struct Variable<'a> {
    pub(in crate::ptx) line: u32,
    pub(in crate::ptx) space: Space,
    pub(in crate::ptx) name: &'a str,
    pub(in crate::ptx) ty: Type,
    /// In bytes; a power of two.
    pub(in crate::ptx) align: u32,
    /// Elements; one unless it is an array. Zero for an array whose size the launch says.
    pub(in crate::ptx) count: u32,
    /// For `%r<n>`: n registers, `%r0` and on.
    pub(in crate::ptx) family: Option<u32>,
    pub(in crate::ptx) init: Vec<Init<'a>>,
}

impl Variable<'_> {
    /// Its size in bytes.
    pub(in crate::ptx) fn bytes(&self) -> u32 {
        // The parser keeps both small.
        self.ty.bytes() * self.count
    }
}

/// An element of an initial value.
#[derive(Clone, Copy, Debug)]
pub(in crate::ptx) enum Init<'a> {
    Int(u64),
    /// The bits of a single-precision number.
    Single(u32),
    /// The bits of a double-precision number, which any variable of numbers may begin as.
    Double(u64),
    /// An address in global memory, which is the same as a generic one, with an offset.
    Address {
        name: &'a str,
        offset: i64,
    },
}

/// A function or a kernel.
#[derive(Debug)]
pub(in crate::ptx) struct Function<'a> {
    pub(in crate::ptx) line: u32,
    pub(in crate::ptx) name: &'a str,
    pub(in crate::ptx) kernel: bool,
    pub(in crate::ptx) results: Vec<Variable<'a>>,
    pub(in crate::ptx) params: Vec<Variable<'a>>,
    /// The most threads of a block, if the text says so.
    pub(in crate::ptx) max_threads: Option<u32>,
    /// The extent that a block must have, if the text says so.
    pub(in crate::ptx) extent: Option<Dim3>,
    /// Nothing for a declaration.
    pub(in crate::ptx) body: Option<Vec<Statement<'a>>>,
}

/// What stands in a function's body.
#[derive(Debug)]
pub(in crate::ptx) enum Statement<'a> {
    Open,
    Close,
    Label(&'a str),
    Declare(Variable<'a>),
    /// The labels that an indexed branch chooses from.
    Targets {
        name: &'a str,
        labels: Vec<&'a str>,
    },
    /// The signature of indirect calls, as sizes in bytes.
    Prototype {
        name: &'a str,
        results: Vec<u32>,
        params: Vec<u32>,
    },
    Instruction(Instruction<'a>),
}

/// An instruction as it is written.
#[derive(Debug)]
pub(in crate::ptx) struct Instruction<'a> {
    pub(in crate::ptx) line: u32,
    pub(in crate::ptx) guard: Option<Guard<'a>>,
    /// With all modifiers.
    pub(in crate::ptx) opcode: &'a str,
    pub(in crate::ptx) operands: Vec<Operand<'a>>,
}

/// `@%p` or `@!%p`.
#[derive(Clone, Copy, Debug)]
pub(in crate::ptx) struct Guard<'a> {
    pub(in crate::ptx) register: &'a str,
    pub(in crate::ptx) negated: bool,
}

/// An operand as it is written.
#[derive(Clone, Debug)]
pub(in crate::ptx) enum Operand<'a> {
    /// A register, a variable, a function or a label; with an offset only if it is a variable.
    Name {
        name: &'a str,
        offset: i64,
    },
    /// A predicate's opposite.
    Not(&'a str),
    Int(u64),
    Single(u32),
    Double(u64),
    /// `[base+offset]`.
    Memory {
        base: Option<&'a str>,
        offset: i64,
    },
    /// `{a, b}`.
    Vector(Vec<Operand<'a>>),
    /// `(a, b)`, of calls.
    List(Vec<&'a str>),
    /// `d|p`.
    Pair(&'a str, &'a str),
}
