//! Why a module cannot be loaded.

/// Why a module cannot be loaded, or a kernel of it not be launched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PtxError {
    /// The text is not PTX, or ends too early.
    #[error(
        "line {line}: {found} where {expected} should be: is this the PTX of ptx-build, whole?"
    )]
    Syntax {
        /// The line.
        line: u32,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// The text says that it is newer than what is known here.
    #[error("line {line}: PTX {version} is newer than the interpreter: compile for PTX 7.0")]
    Newer {
        /// The line.
        line: u32,
        /// The version.
        version: String,
    },
    /// An instruction that the interpreter lacks.
    #[error(
        "line {line}: the interpreter does not know `{instruction}`{why}; compile for sm_70 and PTX 7.0, or run \
         it on a GPU"
    )]
    Unsupported {
        /// The line.
        line: u32,
        /// The instruction.
        instruction: String,
        /// What of it, if not all.
        why: String,
    },
    /// An instruction that makes no sense.
    #[error("line {line}: `{instruction}`: {why}")]
    Malformed {
        /// The line.
        line: u32,
        /// The instruction.
        instruction: String,
        /// Why.
        why: String,
    },
    /// A name that nothing has.
    #[error("line {line}: nothing is called `{name}`: is the module linked whole?")]
    Unknown {
        /// The line.
        line: u32,
        /// The name.
        name: String,
    },
    /// A name that two things have.
    #[error("line {line}: `{name}` is there already")]
    Duplicate {
        /// The line.
        line: u32,
        /// The name.
        name: String,
    },
    /// More memory than any module needs.
    #[error("line {line}: with this, {what} take {bytes} bytes, more than {most}")]
    TooLarge {
        /// The line.
        line: u32,
        /// What.
        what: &'static str,
        /// How much.
        bytes: u64,
        /// How much is possible.
        most: u64,
    },
}
