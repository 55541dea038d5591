//! A module of kernels as PTX text, as far as a session has to know it: which kernels there are, and
//! what they take.

use crate::{DeviceChoice, HostError};
use ptx_build::reach::Pieces;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Kernels as PTX.
#[derive(Clone, Debug)]
pub struct Module {
    text: Arc<str>,
    /// What each kernel takes, by the kernel's name.
    kernels: Arc<BTreeMap<String, Takes>>,
}

/// What a kernel takes. Launches pass one argument at most, as `#[kernel]` makes kernels: the bytes of one parameter.
#[derive(Clone, Debug)]
enum Takes {
    Nothing,
    /// One parameter of so many bytes.
    Bytes(usize),
    /// One that is not understood, as the module declares it.
    Unknown(String),
    /// So many parameters.
    Several(usize),
}

/// Why a module cannot be used, or a kernel of it not be launched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// There is no module.
    #[error(
        "{device} runs kernels as PTX, and there is none: build where a Rust toolchain can compile for \
         nvptx64-nvidia-cuda (`cargo run -p ptx-build -- doctor` says what is missing), or name a file of \
         PTX with --module, or SessionBuilder::module"
    )]
    Missing {
        /// What was to run it.
        device: String,
    },
    /// A file of PTX cannot be read.
    #[error("no module in {path}: {source}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not PTX, or has no kernels.
    #[error("the module has no kernels: it is not what ptx-build writes, or was cut short")]
    NoKernels,
    /// The interpreter cannot run it.
    #[error("the module cannot be interpreted: {0}")]
    Ptx(#[from] gpu_emu::ptx::PtxError),
    /// No kernel has this name.
    #[error(
        "no kernel `{kernel}` in the module, which has {}; was it built from the same source?",
        list(available)
    )]
    NoKernel {
        /// The name.
        kernel: String,
        /// The names that there are.
        available: Vec<String>,
    },
    /// The host's idea of a kernel's argument is not the module's.
    #[error(
        "kernel `{kernel}` takes {takes} bytes, and was given {given}: module and program are not built from \
         the same source"
    )]
    Arguments {
        /// The kernel.
        kernel: String,
        /// Bytes that the module says.
        takes: usize,
        /// Bytes that it would have been launched with.
        given: usize,
    },
    /// A kernel takes what launches do not pass.
    #[error(
        "kernel `{kernel}` takes {count} parameters, and launches pass one at most: a struct that has all of them, as \
         #[kernel] wants it"
    )]
    Parameters {
        /// The kernel.
        kernel: String,
        /// How many it takes.
        count: usize,
    },
    /// A kernel's parameter has no size that is understood.
    #[error("kernel `{kernel}` takes `{parameter}`, of which the size is not known")]
    Parameter {
        /// The kernel.
        kernel: String,
        /// The parameter, as the module declares it.
        parameter: String,
    },
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl Module {
    /// Looks through PTX.
    ///
    /// # Errors
    /// [`ModuleError::NoKernels`].
    pub fn new(text: &str) -> Result<Module, HostError> {
        let kernels = kernels(text);
        if kernels.is_empty() {
            return Err(ModuleError::NoKernels.into());
        }
        Ok(Module { text: text.into(), kernels: Arc::new(kernels) })
    }

    /// Reads a file of PTX.
    ///
    /// # Errors
    /// [`ModuleError::Read`], [`ModuleError::NoKernels`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Module, HostError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|source| ModuleError::Read { path: path.display().to_string(), source })?;
        Module::new(&text)
    }

    /// The module for a device that needs one: that of a file, or else the PTX that the program was
    /// built with, which is empty where no toolchain could make any.
    ///
    /// # Errors
    /// [`ModuleError::Missing`], and as [`Module::from_file`].
    pub fn for_device(
        device: &DeviceChoice,
        file: Option<&Path>,
        built_in: &str,
    ) -> Result<Option<Module>, HostError> {
        match file {
            _ if !device.needs_module() => Ok(None),
            Some(file) => Module::from_file(file).map(Some),
            None if built_in.is_empty() => {
                Err(ModuleError::Missing { device: device.to_string() }.into())
            }
            None => Module::new(built_in).map(Some),
        }
    }

    /// The PTX.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The PTX of one kernel and what it reaches; all of it, if that cannot be told.
    pub fn only(&self, kernel: &str) -> Cow<'_, str> {
        let pieces = Pieces::of(&self.text);
        let only = pieces.and_then(|pieces| pieces.only(kernel));
        only.map_or(Cow::Borrowed(&self.text), Cow::Owned)
    }

    /// The kernels' names, in order.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.kernels.keys().map(String::as_str)
    }

    /// Whether `kernel` can be launched with `given` bytes as its argument. A kernel that takes nothing
    /// may be given nothing.
    ///
    /// # Errors
    /// [`ModuleError::NoKernel`], [`ModuleError::Arguments`]; [`ModuleError::Parameters`] and
    /// [`ModuleError::Parameter`] of kernels that can be given nothing that is right.
    pub fn check(&self, kernel: &str, given: usize) -> Result<(), ModuleError> {
        let name = || kernel.to_owned();
        let takes = match self.find(kernel)? {
            Takes::Nothing => 0,
            Takes::Bytes(bytes) => *bytes,
            Takes::Unknown(parameter) => {
                let parameter = parameter.clone();
                return Err(ModuleError::Parameter { kernel: name(), parameter });
            }
            &Takes::Several(count) => {
                return Err(ModuleError::Parameters { kernel: name(), count });
            }
        };
        if takes == given {
            return Ok(());
        }
        Err(ModuleError::Arguments { kernel: name(), takes, given })
    }

    /// Whether there is such a kernel.
    ///
    /// # Errors
    /// [`ModuleError::NoKernel`].
    pub(crate) fn has(&self, kernel: &str) -> Result<(), ModuleError> {
        self.find(kernel).map(drop)
    }

    fn find(&self, kernel: &str) -> Result<&Takes, ModuleError> {
        self.kernels.get(kernel).ok_or_else(|| ModuleError::NoKernel {
            kernel: kernel.into(),
            available: self.kernels().map(str::to_owned).collect(),
        })
    }
}

/// What each entry takes.
fn kernels(text: &str) -> BTreeMap<String, Takes> {
    let mut found = BTreeMap::new();
    for part in text.split(".entry").skip(1) {
        // A declaration or a comment has no list, or one that does not close before a body.
        let Some((name, rest)) = part.split_once('(') else { continue };
        let Some((parameters, _)) = rest.split_once(')') else { continue };
        let name = name.trim();
        if name.is_empty()
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_$.".contains(&b))
        {
            continue;
        }
        found.insert(name.to_owned(), takes(parameters));
    }
    found
}

/// What a list of parameters asks for.
fn takes(parameters: &str) -> Takes {
    match parameters.split(',').count() {
        1 if parameters.trim().is_empty() => Takes::Nothing,
        1 => parameter_bytes(parameters).map_or_else(
            // On one line, whatever it was on.
            || Takes::Unknown(parameters.split_whitespace().collect::<Vec<_>>().join(" ")),
            Takes::Bytes,
        ),
        count => Takes::Several(count),
    }
}

/// Bytes of one parameter: `.param .align 8 .b8 name[96]`, or `.param .u64 name`. None of a type that is not
/// known, and of a size that is nothing or no number.
fn parameter_bytes(parameter: &str) -> Option<usize> {
    let (declared, count) = match parameter.split_once('[') {
        None => (parameter, 1),
        Some((declared, rest)) => {
            (declared, rest.trim_end().strip_suffix(']')?.trim().parse().ok()?)
        }
    };
    let width = declared.split_whitespace().find_map(|word| {
        let (kind, bits) = word.strip_prefix('.')?.split_at_checked(1)?;
        let bits: usize = bits.parse().ok()?;
        let known = ["b", "u", "s", "f"].contains(&kind) && [8, 16, 32, 64, 128].contains(&bits);
        known.then_some(bits / 8)
    })?;
    width.checked_mul(count).filter(|&bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
.version 7.0
.target sm_70
\t// .globl copy
.visible .entry copy(
\t.param .align 8 .b8 copy_param_0[96]
)
.maxntid 1024, 1, 1
{
\tret;
}
.visible .entry nothing()
{ ret; }
.visible .entry one(
\t.param .u64 one_param_0
) { ret; }
.visible .entry two(
\t.param .u64 two_param_0,
\t.param .f32 two_param_1
) { ret; }
";

    #[test]
    fn kernels_and_their_arguments_are_found() {
        let module = Module::new(TEXT).unwrap();
        assert_eq!(module.kernels().collect::<Vec<_>>(), ["copy", "nothing", "one", "two"]);
        for (kernel, bytes) in [("copy", 96), ("nothing", 0), ("one", 8)] {
            module.check(kernel, bytes).unwrap();
        }
    }

    #[test]
    fn a_kernel_that_takes_more_than_launches_pass_is_named() {
        let module = Module::new(TEXT).unwrap();
        for given in [0, 8, 12] {
            let error = module.check("two", given).unwrap_err();
            assert!(matches!(error, ModuleError::Parameters { count: 2, .. }), "{error}");
            assert!(error.to_string().contains("`two` takes 2 parameters"), "{error}");
        }
    }

    #[test]
    fn a_parameter_whose_size_is_not_known_is_named() {
        for parameter in [
            ".param .texref x",
            ".param .b7 x",
            ".param x",
            ".param .b64 x[18446744073709551615]",
            ".param .b64 x[18446744073709551616]",
            ".param .b8 x[-1]",
            ".param .b8 x[2][3]",
            ".param .b8 x[",
            ".param .b8 x[0]",
            ".param .b8 x[]",
        ] {
            let module = Module::new(&format!(".visible .entry k(\n\t{parameter}\n) {{ ret; }}"));
            let module = module.unwrap();
            for given in [0, 8] {
                let error = module.check("k", given).unwrap_err();
                let ModuleError::Parameter { kernel, parameter: named } = &error else {
                    panic!("{parameter}: {error}")
                };
                assert_eq!((kernel.as_str(), named.as_str()), ("k", parameter));
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let module = Module::new(TEXT).unwrap();
        let message = module.check("copy", 88).unwrap_err().to_string();
        assert!(message.contains("`copy` takes 96") && message.contains("88"), "{message}");
        let message = module.check("grep", 88).unwrap_err().to_string();
        assert!(message.contains("`grep`") && message.contains("`copy`, `nothing`"), "{message}");
    }

    #[test]
    fn text_without_kernels_is_refused() {
        for text in ["", "hello", ".version 7.0\n.target sm_70\n", ".visible .entry cut"] {
            assert!(matches!(Module::new(text), Err(HostError::Module(ModuleError::NoKernels))));
        }
    }
}
