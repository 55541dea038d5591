//! Failures as they travel from the host to a kernel: Linux error numbers.

use core::fmt;

/// An error number with its Linux value. Zero is not an `Errno`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Errno(core::num::NonZeroU16);

macro_rules! errnos {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Errno = Errno(core::num::NonZeroU16::new($number).unwrap());)*

            /// The symbolic name, such as `ENOENT`, where this crate knows one.
            pub const fn name(self) -> Option<&'static str> {
                match self.0.get() { $($number => Some(stringify!($name)),)* _ => None }
            }

            /// A sentence for people.
            pub const fn message(self) -> &'static str {
                match self.0.get() { $($number => $text,)* _ => "Unknown error" }
            }
        }
    };
}

errnos! {
    EPERM = 1, "Operation not permitted";
    ENOENT = 2, "No such file or directory";
    EINTR = 4, "Interrupted system call";
    EIO = 5, "Input/output error";
    ENXIO = 6, "No such device or address";
    EBADF = 9, "Bad file descriptor";
    EAGAIN = 11, "Resource temporarily unavailable";
    ENOMEM = 12, "Cannot allocate memory";
    EACCES = 13, "Permission denied";
    EFAULT = 14, "Bad address";
    EBUSY = 16, "Device or resource busy";
    EEXIST = 17, "File exists";
    EXDEV = 18, "Invalid cross-device link";
    ENODEV = 19, "No such device";
    ENOTDIR = 20, "Not a directory";
    EISDIR = 21, "Is a directory";
    EINVAL = 22, "Invalid argument";
    ENFILE = 23, "Too many open files in system";
    EMFILE = 24, "Too many open files";
    ETXTBSY = 26, "Text file busy";
    EFBIG = 27, "File too large";
    ENOSPC = 28, "No space left on device";
    ESPIPE = 29, "Illegal seek";
    EROFS = 30, "Read-only file system";
    EMLINK = 31, "Too many links";
    EPIPE = 32, "Broken pipe";
    ERANGE = 34, "Numerical result out of range";
    ENAMETOOLONG = 36, "File name too long";
    ENOSYS = 38, "Function not implemented";
    ENOTEMPTY = 39, "Directory not empty";
    ELOOP = 40, "Too many levels of symbolic links";
    EPROTO = 71, "Protocol error";
    EOVERFLOW = 75, "Value too large for defined data type";
    EILSEQ = 84, "Invalid or incomplete multibyte or wide character";
    ENOTSOCK = 88, "Socket operation on non-socket";
    EDESTADDRREQ = 89, "Destination address required";
    EMSGSIZE = 90, "Message too long";
    ENOPROTOOPT = 92, "Protocol not available";
    EOPNOTSUPP = 95, "Operation not supported";
    EAFNOSUPPORT = 97, "Address family not supported by protocol";
    EADDRINUSE = 98, "Address already in use";
    EADDRNOTAVAIL = 99, "Cannot assign requested address";
    ENETUNREACH = 101, "Network is unreachable";
    ECONNABORTED = 103, "Software caused connection abort";
    ECONNRESET = 104, "Connection reset by peer";
    ENOBUFS = 105, "No buffer space available";
    EISCONN = 106, "Transport endpoint is already connected";
    ENOTCONN = 107, "Transport endpoint is not connected";
    ETIMEDOUT = 110, "Connection timed out";
    ECONNREFUSED = 111, "Connection refused";
    EHOSTUNREACH = 113, "No route to host";
    EINPROGRESS = 115, "Operation now in progress";
    ESTALE = 116, "Stale file handle";
    EDQUOT = 122, "Disk quota exceeded";
    ECANCELED = 125, "Operation canceled";
}

impl Errno {
    /// Linux reserves 1..=4095 for error numbers.
    pub const MAX: u32 = 4095;

    /// The error with this Linux number; `None` for 0 and for what no error can be.
    pub const fn from_raw(number: u32) -> Option<Errno> {
        if number > Self::MAX {
            return None;
        }
        match core::num::NonZeroU16::new(number as u16) {
            Some(n) => Some(Errno(n)),
            None => None,
        }
    }

    /// The Linux number.
    pub const fn raw(self) -> u32 {
        self.0.get() as u32
    }

    /// What a completion's error field says: `Ok` for 0, `EPROTO` for what no error can be.
    pub const fn check(number: u32) -> Result<(), Errno> {
        if number == 0 {
            return Ok(());
        }
        match Errno::from_raw(number) {
            Some(e) => Err(e),
            None => Err(Errno::EPROTO),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Errno({})", self.0),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} ({name})", self.message()),
            None => write!(f, "Unknown error {}", self.0),
        }
    }
}

impl core::error::Error for Errno {}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn numbers_and_names_are_those_of_linux() {
        for (e, number, name) in
            [(Errno::ENOENT, 2, "ENOENT"), (Errno::EIO, 5, "EIO"), (Errno::ELOOP, 40, "ELOOP")]
        {
            assert_eq!((e.raw(), e.name()), (number, Some(name)));
            assert_eq!(Errno::from_raw(number), Some(e));
            // The operating system's own sentence for the number begins with ours.
            let os = std::io::Error::from_raw_os_error(number as i32).to_string();
            assert!(os.starts_with(e.message()), "{os} vs {}", e.message());
        }
    }

    #[test]
    fn what_no_error_can_be_is_a_protocol_error() {
        assert_eq!(Errno::check(0), Ok(()));
        assert_eq!(Errno::check(2), Err(Errno::ENOENT));
        assert_eq!(Errno::check(4096), Err(Errno::EPROTO));
        assert_eq!(Errno::check(u32::MAX), Err(Errno::EPROTO));
        assert_eq!(Errno::from_raw(4095).unwrap().to_string(), "Unknown error 4095");
    }
}
