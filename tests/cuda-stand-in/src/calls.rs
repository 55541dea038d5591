//! The driver's functions, by their own names and with their own types.

use crate::context::{Context, MEMORY, Memory, current, pop, push};
use crate::faults::fault;
use crate::modules::{Function, Module};
use crate::stream::Stream;
use crate::{Executor, LaunchCall, NOT_MINE};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLock};
use std::time::Instant;

const SUCCESS: u32 = 0;
const INVALID_VALUE: u32 = 1;
const OUT_OF_MEMORY: u32 = 2;
pub(crate) const INVALID_CONTEXT: u32 = 201;
const INVALID_PTX: u32 = 218;
const NOT_FOUND: u32 = 500;
const NOT_READY: u32 = 600;
const STACK_ERROR: u32 = 714;

/// Shared memory that a block of each kernel has of its own, and what it has with that without permission.
const OWN_SHARED: u32 = 1024;
const PLAIN_SHARED: u32 = 48 << 10;

/// Bytes of a thread's stack: by itself, and at most.
const PLAIN_STACK: usize = 1024;
const MOST_STACK: usize = 512 << 10;
/// Bytes that a kernel needs which says something, beside what its compiler counts.
const SAYING: usize = 1024;

static EXECUTOR: RwLock<Option<Executor>> = RwLock::new(None);

/// Sets what runs kernels.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn stand_in_set_executor(executor: Executor) {
    *EXECUTOR.write().expect("a pointer") = Some(executor);
}

/// What a function returns: the number of the error, or 0.
fn status(outcome: Result<(), u32>) -> u32 {
    outcome.err().unwrap_or(SUCCESS)
}

/// A point in a stream's work.
pub(crate) struct Event {
    at: RwLock<Option<Instant>>,
}

macro_rules! driver {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) $body:block)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// As the driver's function of that name.
        #[unsafe(no_mangle)]
        #[allow(unused_unsafe, reason = "not all of them do what is unsafe")]
        pub(crate) unsafe extern "C" fn $name($($arg: $ty),*) -> u32 {
            // SAFETY: the caller's promise covers what the body does with its arguments: places for results
            // and handles are as the driver's.
            let body = || unsafe { $body };
            status(fault(stringify!($name)).and_then(|()| body()))
        }
    )*};
}

driver! {
    /// Nothing to start.
    fn cuInit(flags: c_uint) {
        if flags == 0 { Ok(()) } else { Err(INVALID_VALUE) }
    }

    /// A few names.
    fn cuGetErrorName(error: u32, name: *mut *const c_char) {
        *name = match error {
            INVALID_VALUE => c"CUDA_ERROR_INVALID_VALUE",
            OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
            INVALID_PTX => c"CUDA_ERROR_INVALID_PTX",
            700 => c"CUDA_ERROR_ILLEGAL_ADDRESS",
            STACK_ERROR => c"CUDA_ERROR_HARDWARE_STACK_ERROR",
            719 => c"CUDA_ERROR_LAUNCH_FAILED",
            _ => return Err(INVALID_VALUE),
        }
        .as_ptr();
        Ok(())
    }

    /// One text for all.
    fn cuGetErrorString(_error: u32, text: *mut *const c_char) {
        *text = c"as the stand-in was told".as_ptr();
        Ok(())
    }

    /// Two.
    fn cuDeviceGetCount(count: *mut c_int) {
        *count = 2;
        Ok(())
    }

    /// A device is its number.
    fn cuDeviceGet(device: *mut c_int, ordinal: c_int) {
        *device = ordinal;
        if (0..2).contains(&ordinal) { Ok(()) } else { Err(INVALID_VALUE) }
    }

    /// The same for both.
    fn cuDeviceGetName(name: *mut c_char, len: c_int, _device: c_int) {
        let text = c"stand-in for a GPU".to_bytes_with_nul();
        if (len as usize) < text.len() {
            return Err(INVALID_VALUE);
        }
        name.copy_from(text.as_ptr().cast(), text.len());
        Ok(())
    }

    /// As a small GPU's.
    fn cuDeviceGetAttribute(value: *mut c_int, attribute: u32, device: c_int) {
        *value = match attribute {
            // Threads of a block: x, y, z.
            2 | 3 => 1024,
            4 => 64,
            // Blocks: x, y, z.
            5 => i32::MAX,
            6 | 7 => 65535,
            // Multiprocessors.
            16 => 4,
            // Compute capability.
            75 => if device == 0 { 9 } else { 6 },
            76 => if device == 0 { 0 } else { 1 },
            // Shared memory of a block, with permission.
            97 => 100 << 10,
            _ => return Err(INVALID_VALUE),
        };
        Ok(())
    }

    /// Makes a context, and makes it current.
    fn cuCtxCreate_v2(context: *mut *const Context, _flags: c_uint, _device: c_int) {
        let made = Arc::new(Context::default());
        push(made.clone());
        *context = Arc::into_raw(made);
        Ok(())
    }

    /// Makes a context current.
    fn cuCtxPushCurrent_v2(context: *const Context) {
        Arc::increment_strong_count(context);
        push(Arc::from_raw(context));
        Ok(())
    }

    /// Takes that back.
    fn cuCtxPopCurrent_v2(context: *mut *const Context) {
        *context = Arc::as_ptr(&pop().ok_or(INVALID_CONTEXT)?);
        Ok(())
    }

    /// Ends a context, after the work in it.
    fn cuCtxDestroy_v2(context: *const Context) {
        let context = Arc::from_raw(context);
        let streams = std::mem::take(&mut context.owned().streams);
        streams.iter().for_each(|stream| stream.wait());
        // Host memory that is still registered would stay pinned; that of a context which a kernel took
        // down cannot be let go.
        let well = context.failed.load(Ordering::Relaxed) == 0;
        assert!(!well || context.owned().registered.is_empty(), "host memory is let go before the end");
        Ok(())
    }

    /// The stack of threads.
    fn cuCtxSetLimit(limit: u32, bytes: usize) {
        if limit != 0 || bytes > MOST_STACK {
            return Err(INVALID_VALUE);
        }
        current()?.stack.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Reads PTX.
    fn cuModuleLoadDataEx(
        module: *mut *const Module,
        image: *const c_char,
        count: c_uint,
        options: *const u32,
        values: *const *mut c_void
    ) {
        let context = current()?;
        let text = CStr::from_ptr(image).to_str().map_err(|_| INVALID_PTX)?;
        match Module::compile(text) {
            Ok(compiled) => {
                *module = Arc::as_ptr(&compiled);
                context.owned().modules.push(compiled);
                Ok(())
            }
            Err(message) => {
                let value = |option| (0..count as usize)
                    .find(|&i| *options.add(i) == option)
                    .map(|i| *values.add(i));
                // The buffer for errors, and its size.
                if let (Some(buffer), Some(size)) = (value(5), value(6)) {
                    let n = message.len().min(size as usize - 1);
                    buffer.cast::<u8>().copy_from(message.as_ptr(), n);
                    buffer.cast::<u8>().add(n).write(0);
                }
                Err(INVALID_PTX)
            }
        }
    }

    /// A kernel by name.
    fn cuModuleGetFunction(function: *mut *const Function, module: *const Module, name: *const c_char) {
        let found = (*module).functions.get(CStr::from_ptr(name)).ok_or(NOT_FOUND)?;
        *function = &raw const **found;
        Ok(())
    }

    /// A variable by name.
    fn cuModuleGetGlobal_v2(
        address: *mut u64,
        bytes: *mut usize,
        module: *const Module,
        name: *const c_char
    ) {
        let found = (*module).globals.get(CStr::from_ptr(name)).ok_or(NOT_FOUND)?;
        (*address, *bytes) = (found.as_ptr() as u64, found.len() * 8);
        Ok(())
    }

    /// Threads of a block at most, shared memory, and stack.
    fn cuFuncGetAttribute(value: *mut c_int, attribute: u32, function: *const Function) {
        *value = match attribute {
            0 => (*function).max_threads,
            1 => OWN_SHARED as c_int,
            3 => (*function).stack as c_int,
            _ => return Err(INVALID_VALUE),
        };
        Ok(())
    }

    /// Shared memory, with permission.
    fn cuFuncSetAttribute(function: *const Function, attribute: u32, value: c_int) {
        if attribute != 8 || value > 100 << 10 {
            return Err(INVALID_VALUE);
        }
        (*function).granted.store(value as u32, Ordering::Relaxed);
        Ok(())
    }

    /// Memory full of rubbish.
    fn cuMemAlloc_v2(address: *mut u64, bytes: usize) {
        let context = current()?;
        let mut owned = context.owned();
        if owned.memory.iter().map(|m| m.len).sum::<usize>() + bytes > MEMORY {
            return Err(OUT_OF_MEMORY);
        }
        let memory = Memory::new(bytes);
        *address = memory.base as u64;
        owned.memory.push(memory);
        Ok(())
    }

    /// What is left.
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let used: usize = current()?.owned().memory.iter().map(|m| m.len).sum();
        (*free, *total) = (MEMORY - used, MEMORY);
        Ok(())
    }

    /// The host's memory is the device's.
    fn cuMemHostRegister_v2(base: *mut c_void, bytes: usize, flags: c_uint) {
        if flags != 3 || !(base as usize).is_multiple_of(4096) {
            return Err(INVALID_VALUE);
        }
        current()?.owned().registered.push((base as usize, bytes));
        Ok(())
    }

    /// The same address, if it is registered.
    fn cuMemHostGetDevicePointer_v2(address: *mut u64, base: *mut c_void, _flags: c_uint) {
        let known = current()?.owned().registered.iter().any(|(at, _)| *at == base as usize);
        *address = base as u64;
        if known { Ok(()) } else { Err(INVALID_VALUE) }
    }

    /// Forgets it.
    fn cuMemHostUnregister(base: *mut c_void) {
        current()?.owned().registered.retain(|(at, _)| *at != base as usize);
        Ok(())
    }

    /// Pinned memory; it stays.
    fn cuMemHostAlloc(base: *mut *mut c_void, bytes: usize, _flags: c_uint) {
        let memory = Memory::new(bytes);
        *base = memory.base as *mut c_void;
        current()?.owned().memory.push(memory);
        Ok(())
    }

    /// A stream with a thread.
    fn cuStreamCreate(stream: *mut *const Stream, _flags: c_uint) {
        let made = Arc::new(Stream::new());
        *stream = Arc::as_ptr(&made);
        current()?.owned().streams.push(made);
        Ok(())
    }

    /// Whether all is done.
    fn cuStreamQuery(stream: *const Stream) {
        current()?;
        let idle = (*stream).is_idle();
        // The failure of that work comes first.
        current()?;
        if idle { Ok(()) } else { Err(NOT_READY) }
    }

    /// Waits, and says what has failed meanwhile.
    fn cuStreamSynchronize(stream: *const Stream) {
        current()?;
        (*stream).wait();
        current().map(drop)
    }

    /// A copy, in order.
    fn cuMemcpyHtoDAsync_v2(to: u64, from: *const u8, bytes: usize, stream: *const Stream) {
        copy(to, from as u64, bytes, to, &*stream)
    }

    /// A copy, in order.
    fn cuMemcpyDtoHAsync_v2(to: *mut u8, from: u64, bytes: usize, stream: *const Stream) {
        copy(to as u64, from, bytes, from, &*stream)
    }

    /// Bytes of one value, in order.
    fn cuMemsetD8Async(to: u64, value: u8, bytes: usize, stream: *const Stream) {
        if !current()?.has(to, bytes) {
            return Err(INVALID_VALUE);
        }
        (*stream).push(move || (to as *mut u8).write_bytes(value, bytes));
        Ok(())
    }

    /// A launch, in order.
    fn cuLaunchKernel(
        function: *const Function,
        gx: c_uint, gy: c_uint, gz: c_uint,
        bx: c_uint, by: c_uint, bz: c_uint,
        shared_bytes: c_uint,
        stream: *const Stream,
        parameters: *const *const u8,
        _extra: *const c_void
    ) {
        let context = current()?;
        let executor = *EXECUTOR.read().expect("a pointer");
        let Function { name, args, max_threads, stack, granted, module } = &*function;
        if bx * by * bz > *max_threads as u32 || *args > 0 && parameters.is_null() {
            return Err(INVALID_VALUE);
        }
        let permitted = granted.load(Ordering::Relaxed).max(PLAIN_SHARED - OWN_SHARED);
        if shared_bytes > permitted {
            return Err(INVALID_VALUE);
        }
        // What there is now, as the driver does.
        let bytes = if *args == 0 { Vec::new() } else {
            std::slice::from_raw_parts(*parameters, *args).to_vec()
        };
        let (name, stack) = (name.clone(), *stack);
        Arc::increment_strong_count(*module);
        let module = Arc::from_raw(*module);
        (*stream).push(move || {
            // What follows a failed kernel does not run.
            if context.failed.load(Ordering::Relaxed) != 0 {
                return;
            }
            let call = LaunchCall {
                name: name.as_ptr(),
                name_len: name.len(),
                args: bytes.as_ptr(),
                args_len: bytes.len(),
                grid: [gx, gy, gz],
                block: [bx, by, bz],
                shared_bytes,
                log: module.log(),
            };
            // A GPU fails when a kernel says something; this, whenever it might.
            let given = match context.stack.load(Ordering::Relaxed) {
                0 => PLAIN_STACK,
                set => set,
            };
            if module.log() != 0 && given < stack + SAYING {
                context.fail(STACK_ERROR);
                return;
            }
            let taken = executor.map_or(NOT_MINE, |executor| executor(&call));
            let result = match taken {
                NOT_MINE => module.ptx().run(&name, &call, &context.ranges()),
                result => result,
            };
            context.fail(result);
        });
        Ok(())
    }

    /// A point in time.
    fn cuEventCreate(event: *mut *const Event, _flags: c_uint) {
        current()?;
        *event = Arc::into_raw(Arc::new(Event { at: RwLock::new(None) }));
        Ok(())
    }

    /// Puts it behind the stream's work.
    fn cuEventRecord(event: *const Event, stream: *const Stream) {
        current()?;
        Arc::increment_strong_count(event);
        let event = Arc::from_raw(event);
        (*stream).push(move || *event.at.write().expect("a time") = Some(Instant::now()));
        Ok(())
    }

    /// Between two that were reached.
    fn cuEventElapsedTime(milliseconds: *mut f32, start: *const Event, end: *const Event) {
        let at = |event: *const Event| (*event).at.read().expect("a time").ok_or(NOT_READY);
        *milliseconds = at(end)?.duration_since(at(start)?).as_secs_f32() * 1e3;
        Ok(())
    }
}

/// A copy, in order, of which `device` is the device's side.
///
/// # Safety
/// The host's side lives until the stream was waited for.
unsafe fn copy(to: u64, from: u64, bytes: usize, device: u64, stream: &Stream) -> Result<(), u32> {
    if !current()?.has(device, bytes) {
        return Err(INVALID_VALUE);
    }
    // SAFETY: device memory of the context, and what the caller vouches for.
    stream.push(move || unsafe {
        std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes);
    });
    Ok(())
}
