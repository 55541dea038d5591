//! A module as it is executed: instructions of one size, all names resolved.

use std::collections::BTreeMap;

use gpu_rt::Dim3;

use super::globals::Globals;
use super::row::{Map, Row, Slot};

/// An instruction.
#[derive(Clone, Copy)]
pub(super) struct Inst {
    pub(super) code: Code,
    /// Where the result goes.
    pub(super) d: Slot,
    /// The operands.
    pub(super) a: Slot,
    pub(super) b: Slot,
    pub(super) c: Slot,
    pub(super) e: Slot,
    /// An address's offset, a branch's target, or the index of what else there is to say.
    pub(super) imm: i64,
    /// How many PTX instructions it counts for: none, where one became several.
    pub(super) weight: u8,
}

impl Inst {
    pub(super) fn new(code: Code) -> Inst {
        let none = Slot::NONE;
        Inst { code, d: none, a: none, b: none, c: none, e: none, imm: 0, weight: 1 }
    }

    /// Where it branches to.
    #[inline(always)]
    pub(super) fn target(&self) -> u32 {
        self.imm as u32
    }
}

/// What an instruction does.
#[derive(Clone, Copy)]
pub(super) enum Code {
    /// Computes `d` from the operands.
    Map(Map),
    /// Leaves out what follows up to the target unless predicate `a` is `when`.
    Unless {
        when: bool,
    },
    /// Goes to the target.
    Branch,
    /// Goes to the target if predicate `a` is `when`.
    BranchIf {
        when: bool,
    },
    /// The same, and all lanes that run together go the same way.
    BranchUniform {
        when: bool,
    },
    /// Goes to target number `a` of table `imm`.
    BranchIndexed {
        uniform: bool,
    },
    /// Calls function `e`'s number of call site `imm`.
    Call,
    /// Calls the function whose address is `a`, as call site `imm` says.
    CallIndirect {
        uniform: bool,
    },
    Return,
    Exit,
    Trap,
    /// `d` = `[a + imm]`; with several elements, `d` is the place in the list of their slots.
    Load(Access),
    /// `[a + imm]` = `b`; with several elements, `b` is the place in the list of their slots.
    Store(Access),
    /// `d` = `[a + imm]`, which becomes a function of itself, `b` and `c`.
    Atomic(Atomic),
    Fence,
    /// Waits at barrier `a` for `b` threads.
    Barrier(Barrier),
    /// Waits for the lanes of mask `e`, and exchanges operands with them.
    Meet(Meet),
    /// `d` = the lanes that are converged.
    ActiveMask,
    /// Sleeps for about `a` nanoseconds.
    Sleep,
    /// `d` = what a counter says now.
    Read(Counter),
    /// `d` = the address of the function's local variables, plus `imm`.
    LocalAddress,
    /// `d` = whether address `a` is in a space.
    IsSpace(Space),
}

/// What a special register counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counter {
    Clock { shift: u8, bits: u8 },
    Nanoseconds { shift: u8, bits: u8 },
}

impl Counter {
    /// By its name in PTX.
    pub(super) fn named(name: &str) -> Option<Counter> {
        Some(match name {
            "%clock" => Counter::Clock { shift: 0, bits: 32 },
            "%clock_hi" => Counter::Clock { shift: 32, bits: 32 },
            "%clock64" => Counter::Clock { shift: 0, bits: 64 },
            "%globaltimer" => Counter::Nanoseconds { shift: 0, bits: 64 },
            "%globaltimer_lo" => Counter::Nanoseconds { shift: 0, bits: 32 },
            "%globaltimer_hi" => Counter::Nanoseconds { shift: 32, bits: 32 },
            _ => return None,
        })
    }

    /// The bits of the register.
    pub(super) fn bits(self) -> u8 {
        match self {
            Counter::Clock { bits, .. } | Counter::Nanoseconds { bits, .. } => bits,
        }
    }
}

/// Which memory an address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// Its value tells.
    Generic,
    Global,
    Shared,
    Local,
}

/// How an access is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// An ordinary access.
    Weak,
    Relaxed,
    Acquire,
    Release,
    Both,
}

/// How memory is loaded or stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) space: Space,
    pub(super) order: Order,
    /// Whether the order is one among the block's own threads alone.
    pub(super) block: bool,
    /// Bytes of an element.
    pub(super) bytes: u8,
    /// How many elements.
    pub(super) count: u8,
    /// For loads that keep a sign: the bits of the register.
    pub(super) signed: Option<u8>,
}

/// A read-modify-write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Atomic {
    pub(super) op: AtomicOp,
    pub(super) space: Space,
    pub(super) order: Order,
    /// Whether it is one for the block's own threads alone.
    pub(super) block: bool,
    pub(super) bytes: u8,
}

/// What a read-modify-write makes of a word and its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtomicOp {
    Add,
    And,
    Or,
    Xor,
    Exchange,
    /// Stores `c` if the word is `b`.
    CompareExchange,
    MinUnsigned,
    MaxUnsigned,
    MinSigned,
    MaxSigned,
    /// Counts up to `b`, then from zero again.
    Increment,
    /// Counts down from `b`, and from `b` again after zero.
    Decrement,
    AddFloat,
    /// The same in single precision, where subnormal numbers are zero.
    AddFlushed,
}

/// A barrier of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Barrier {
    /// Whether it names how many threads take part, instead of all.
    pub(super) counted: bool,
    /// Whether it waits, rather than only counts as arrived.
    pub(super) waits: bool,
    /// Whether all lanes of a warp must stand at this very instruction.
    pub(super) aligned: bool,
    pub(super) reduction: Option<Vote>,
}

/// What lanes that meet exchange: all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meet {
    /// Nothing.
    Sync,
    /// Predicate `a`.
    Vote(Vote),
    /// `a`, from the lane that `b` and `c` say; predicate `imm - 1` says whether there is one.
    Shuffle(Shuffle),
    /// Which lanes have the same `a`, of so many bits.
    MatchAny { bits: u8 },
    /// Whether all have the same `a`; predicate `imm - 1` too.
    MatchAll { bits: u8 },
    /// A value of all `a`.
    Reduce(AtomicOp),
}

/// What comes of predicates of many threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vote {
    All,
    Any,
    Uniform,
    /// Which lanes; at a barrier, how many threads.
    Ballot,
}

/// Which lane a shuffle takes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

/// The sizes of a function's parameters and results in bytes: what a caller and its callee agree on.
///
/// ```text
///   frame of a function:  0: where to return to | parameters | results | registers and the rest
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Signature {
    pub(super) params: Vec<u32>,
    pub(super) results: Vec<u32>,
}

/// Rows that so many bytes take.
pub(super) fn rows_of(bytes: u32) -> u32 {
    bytes.div_ceil(8)
}

impl Signature {
    /// The first row of each parameter, then of each result, and the row after all of them.
    pub(super) fn rows(&self) -> (Vec<u32>, u32) {
        let mut next = 1;
        let rows = self.params.iter().chain(&self.results).map(|&bytes| {
            let row = next;
            next += rows_of(bytes);
            row
        });
        (rows.collect(), next)
    }
}

/// A call as the caller sees it.
#[derive(Clone, Debug)]
pub(super) struct CallSite {
    /// The function, unless the call is indirect.
    pub(super) callee: Option<u32>,
    pub(super) signature: Signature,
    /// Rows to copy: the caller's and the callee's.
    pub(super) arguments: Vec<(u32, u32)>,
    /// Rows to copy back: the callee's and the caller's.
    pub(super) results: Vec<(u32, u32)>,
    /// The function that calls.
    pub(super) caller: u32,
}

/// A function.
#[derive(Clone, Debug)]
pub(super) struct Function {
    pub(super) name: String,
    /// Its first instruction.
    pub(super) start: u32,
    /// Rows of its frame.
    pub(super) rows: u32,
    /// Bytes of its local variables.
    pub(super) local_bytes: u32,
    pub(super) signature: Signature,
    /// Whether there is code for it.
    pub(super) defined: bool,
    /// Whether it is launched, and never called.
    pub(super) kernel: bool,
}

/// What a launch needs to know about a kernel.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    pub(super) function: u32,
    /// Bytes of its arguments.
    pub(super) argument_bytes: u32,
    /// For each parameter its first row, where it begins in the arguments, and its size in bytes.
    pub(super) arguments: Vec<(u32, u32, u32)>,
    pub(super) max_threads: Option<u32>,
    /// The only extent that its blocks may have.
    pub(super) extent: Option<Dim3>,
}

/// A module, ready to run.
pub(super) struct Program {
    pub(super) code: Vec<Inst>,
    /// The line of each instruction in the text.
    pub(super) lines: Vec<u32>,
    /// A row for each number.
    pub(super) constants: Vec<Row>,
    pub(super) functions: Vec<Function>,
    pub(super) calls: Vec<CallSite>,
    /// The targets of indexed branches.
    pub(super) tables: Vec<Vec<u32>>,
    /// The slots of accesses with several elements.
    pub(super) lists: Vec<Slot>,
    pub(super) kernels: BTreeMap<String, Kernel>,
    pub(super) globals: Globals,
    /// Bytes of shared memory that the module itself declares.
    pub(super) shared_bytes: u32,
    pub(super) text: String,
}

impl Program {
    /// The function that an instruction belongs to.
    pub(super) fn function_at(&self, pc: u32) -> Option<&Function> {
        let defined = self.functions.iter().filter(|f| f.defined && f.start <= pc);
        defined.max_by_key(|f| f.start)
    }

    /// An instruction's line and text.
    pub(super) fn source(&self, pc: u32) -> (u32, String) {
        let line = self.lines.get(pc as usize).copied().unwrap_or(0);
        let text = self.text.lines().nth((line as usize).saturating_sub(1)).unwrap_or("");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        (line, text.trim_end_matches(';').to_owned())
    }
}
