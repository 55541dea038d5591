//! What `#[kernel]` expands to. The attribute checks the signature; `__kernel!` knows the target.

#[cfg(not(target_arch = "nvptx64"))]
use core::fmt;

#[cfg(not(target_arch = "nvptx64"))]
use bytemuck::Pod;

/// A kernel as the host sees it: `#[kernel] fn name(args: A)` makes a `static name: Kernel<A>`.
#[cfg(not(target_arch = "nvptx64"))]
pub struct Kernel<A> {
    name: &'static str,
    module: &'static str,
    max_threads: Option<u32>,
    entry: fn(A),
}

#[cfg(not(target_arch = "nvptx64"))]
impl<A: Pod> Kernel<A> {
    /// For `#[kernel]`; `module` is the path of the module in which it stands.
    #[must_use]
    pub const fn new(name: &'static str, module: &'static str, entry: fn(A)) -> Self {
        Self { name, module, max_threads: None, entry }
    }

    /// The same, launched with blocks of at most so many threads; for `#[kernel]`.
    #[must_use]
    pub const fn bounded(self, max_threads: u32) -> Self {
        Self { max_threads: Some(max_threads), ..self }
    }

    /// The kernel's name: also that of its symbol in PTX.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The path of the module in which the kernel stands.
    #[must_use]
    pub const fn module(&self) -> &'static str {
        self.module
    }

    /// The most threads that a block may have, if `#[kernel(max_threads = N)]` says so.
    #[must_use]
    pub const fn max_threads(&self) -> Option<u32> {
        self.max_threads
    }

    /// What each thread of a launch runs.
    #[must_use]
    pub const fn entry(&self) -> fn(A) {
        self.entry
    }

    /// Runs the kernel for the calling thread: outside an emulator, as a launch of a single thread.
    pub fn call(&self, args: A) {
        (self.entry)(args);
    }
}

#[cfg(not(target_arch = "nvptx64"))]
impl<A> fmt::Debug for Kernel<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel")
            .field("name", &self.name)
            .field("module", &self.module)
            .finish_non_exhaustive()
    }
}

#[cfg(not(target_arch = "nvptx64"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __kernel {
    ({ $(#[$outer:meta])* } { $(#[$inner:meta])* } $vis:vis fn $name:ident ($arg:pat, $ty:ty) $body:block $($threads:literal $symbol:literal)?) => {
        $(#[$outer])*
        #[allow(non_upper_case_globals)]
        $vis static $name: $crate::Kernel<$ty> = {
            $(#[$inner])*
            fn $name($arg: $ty) $body
            $crate::Kernel::new(::core::stringify!($name), ::core::module_path!(), $name)
                $(.bounded($threads))?
        };
    };
}

/// An entry point of the same name. Its one argument is the `.param` that a launch fills with the
/// bytes of the struct. How large its blocks may be, `ptx-build` reads off the name of a variable that
/// nobody uses, and which it takes out.
#[cfg(target_arch = "nvptx64")]
#[doc(hidden)]
#[macro_export]
macro_rules! __kernel {
    ({ $(#[$outer:meta])* } { $(#[$inner:meta])* } $vis:vis fn $name:ident ($arg:pat, $ty:ty) $body:block $($threads:literal $symbol:literal)?) => {
        $(
            const _: () = {
                #[unsafe(export_name = $symbol)]
                pub static BOUND: u8 = 0;
            };
        )?
        $(#[$outer])*
        #[unsafe(no_mangle)]
        $vis extern "ptx-kernel" fn $name(args: $ty) {
            const { assert!(size_of::<$ty>() <= 4096, "a kernel's argument has at most 4096 bytes") }
            $(#[$inner])*
            fn $name($arg: $ty) $body
            $name(args)
        }
    };
}
