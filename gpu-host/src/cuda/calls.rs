//! The driver's functions, by name, with what they return as a number.
//!
//! `cudarc` has them as well. But what they return there is an enum of the errors that one version of CUDA
//! knows, and a number that a later driver has added would be undefined behaviour; and a function that an older driver
//! lacks is a panic. So the types are from there, and the functions from here, all of them found at once.

use super::error::CudaError;
use cudarc::driver::sys::{
    self, CUcontext, CUdevice, CUdevice_attribute, CUdeviceptr, CUevent, CUfunction,
    CUfunction_attribute, CUjit_option, CUlimit, CUmodule, CUresult, CUstream,
};
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

/// What a call returned: the driver's number, whether we know it or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Status(pub(super) u32);

impl PartialEq<CUresult> for Status {
    fn eq(&self, known: &CUresult) -> bool {
        self.0 == *known as u32
    }
}

macro_rules! calls {
    ($(fn $name:ident($($arg:ident: $ty:ty),*);)*) => {
        /// Where the driver has them.
        #[allow(non_snake_case, reason = "the driver's names")]
        struct Table {
            $($name: unsafe extern "C" fn($($ty),*) -> Status,)*
        }

        impl Table {
            /// All of them, where `symbol` says that they are; the name of one that it does not know.
            ///
            /// # Safety
            /// What it says of a name is the driver's function of that name.
            unsafe fn find(
                symbol: impl Fn(&str) -> Option<*const c_void>,
            ) -> Result<Table, &'static str> {
                Ok(Table {$(
                    $name: {
                        let at = symbol(stringify!($name)).ok_or(stringify!($name))?;
                        // SAFETY: the caller's promise; the types are the driver's, as `cudarc` has them.
                        unsafe {
                            std::mem::transmute::<
                                *const c_void,
                                unsafe extern "C" fn($($ty),*) -> Status,
                            >(at)
                        }
                    },
                )*})
            }
        }

        $(
            /// # Safety
            /// As the driver's documentation of this function says.
            #[allow(non_snake_case, clippy::too_many_arguments, reason = "as the driver has it")]
            pub(super) unsafe fn $name($($arg: $ty),*) -> Status {
                // SAFETY: the caller's promise.
                unsafe { (table().$name)($($arg),*) }
            }
        )*
    };
}

calls! {
    fn cuInit(flags: c_uint);
    fn cuGetErrorName(error: Status, name: *mut *const c_char);
    fn cuGetErrorString(error: Status, text: *mut *const c_char);
    fn cuDeviceGetCount(count: *mut c_int);
    fn cuDeviceGet(device: *mut CUdevice, ordinal: c_int);
    fn cuDeviceGetName(name: *mut c_char, len: c_int, device: CUdevice);
    fn cuDeviceGetAttribute(value: *mut c_int, attribute: CUdevice_attribute, device: CUdevice);
    fn cuCtxCreate_v2(context: *mut CUcontext, flags: c_uint, device: CUdevice);
    fn cuCtxDestroy_v2(context: CUcontext);
    fn cuCtxPushCurrent_v2(context: CUcontext);
    fn cuCtxPopCurrent_v2(context: *mut CUcontext);
    fn cuCtxSetLimit(limit: CUlimit, value: usize);
    fn cuModuleLoadDataEx(
        module: *mut CUmodule,
        image: *const c_void,
        options: c_uint,
        names: *mut CUjit_option,
        values: *mut *mut c_void
    );
    fn cuModuleGetFunction(function: *mut CUfunction, module: CUmodule, name: *const c_char);
    fn cuModuleGetGlobal_v2(
        address: *mut CUdeviceptr,
        bytes: *mut usize,
        module: CUmodule,
        name: *const c_char
    );
    fn cuFuncGetAttribute(
        value: *mut c_int,
        attribute: CUfunction_attribute,
        function: CUfunction
    );
    fn cuFuncSetAttribute(function: CUfunction, attribute: CUfunction_attribute, value: c_int);
    fn cuMemAlloc_v2(address: *mut CUdeviceptr, bytes: usize);
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize);
    fn cuMemHostAlloc(at: *mut *mut c_void, bytes: usize, flags: c_uint);
    fn cuMemHostRegister_v2(at: *mut c_void, bytes: usize, flags: c_uint);
    fn cuMemHostGetDevicePointer_v2(address: *mut CUdeviceptr, at: *mut c_void, flags: c_uint);
    fn cuMemHostUnregister(at: *mut c_void);
    fn cuMemcpyHtoDAsync_v2(to: CUdeviceptr, from: *const c_void, bytes: usize, stream: CUstream);
    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: CUdeviceptr, bytes: usize, stream: CUstream);
    fn cuMemsetD8Async(to: CUdeviceptr, value: u8, bytes: usize, stream: CUstream);
    fn cuStreamCreate(stream: *mut CUstream, flags: c_uint);
    fn cuStreamQuery(stream: CUstream);
    fn cuStreamSynchronize(stream: CUstream);
    fn cuLaunchKernel(
        function: CUfunction,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared_bytes: c_uint,
        stream: CUstream,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void
    );
    fn cuEventCreate(event: *mut CUevent, flags: c_uint);
    fn cuEventRecord(event: CUevent, stream: CUstream);
    fn cuEventElapsedTime(milliseconds: *mut f32, start: CUevent, end: CUevent);
}

static TABLE: OnceLock<Table> = OnceLock::new();

fn table() -> &'static Table {
    TABLE.get().expect("nobody has a device, a context or an error before `load` was asked for")
}

/// Loads the driver's library and finds its functions, the first time that it is called.
///
/// # Errors
/// [`CudaError::NoDriver`], [`CudaError::OldDriver`].
pub(super) fn load() -> Result<(), CudaError> {
    if TABLE.get().is_some() {
        return Ok(());
    }
    // SAFETY: loads a library by its well-known name, whose initialisers are the driver's.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::NoDriver);
    }
    // SAFETY: as above. It was there a moment ago, and stays loaded.
    let library = unsafe { sys::culib() };
    let symbol = |name: &str| {
        // SAFETY: looked up as an address, which is not used here.
        unsafe { library.get::<*const c_void>(name) }.ok().map(|symbol| *symbol)
    };
    // SAFETY: the driver's library says where they are.
    let found = unsafe { Table::find(symbol) };
    let table = found.map_err(|missing| CudaError::OldDriver { missing })?;
    TABLE.get_or_init(|| table);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_the_driver_lacks_is_named() {
        let somewhere = std::ptr::dangling::<u8>().cast();
        let but = |missing: &'static str| move |name: &str| (name != missing).then_some(somewhere);
        for missing in ["cuInit", "cuMemGetInfo_v2", "cuEventElapsedTime"] {
            // SAFETY: none of them is called.
            let found = unsafe { Table::find(but(missing)) };
            assert_eq!(found.err(), Some(missing));
        }
        // SAFETY: as above.
        assert!(unsafe { Table::find(but("cuNothing")) }.is_ok());
    }
}
