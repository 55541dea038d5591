//! Addresses: the region's and the operating system's.

use gpu_abi::Errno;
use gpu_abi::socket::NetAddr;
use socket2::{SockAddr, SockRef};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An address of the operating system's, as the region has it; unnamed if it is of another kind.
pub(crate) fn from_system(addr: &SockAddr) -> NetAddr {
    match addr.as_socket() {
        Some(addr) => addr.into(),
        None if addr.is_unix() => NetAddr::unix(path_of(addr).len()),
        None => NetAddr::default(),
    }
}

/// A Unix socket's path, or its abstract name with a NUL before it; nothing for what has neither.
pub(crate) fn path_of(addr: &SockAddr) -> Vec<u8> {
    match (addr.as_pathname(), addr.as_abstract_namespace()) {
        (Some(path), _) => path.as_os_str().as_bytes().to_vec(),
        (None, Some(name)) => [&[0], name].concat(),
        (None, None) => Vec::new(),
    }
}

/// An address of the region's, with its path, as the operating system has it.
pub(crate) fn to_system(addr: &NetAddr, path: &[u8]) -> Result<SockAddr, Errno> {
    if let Some(addr) = addr.to_std() {
        return Ok(addr.into());
    }
    if addr.family != NetAddr::UNIX {
        return Err(Errno::EAFNOSUPPORT);
    }
    if path.is_empty() || path.contains(&0) {
        return Err(Errno::EINVAL);
    }
    let path = std::ffi::OsStr::from_bytes(path);
    SockAddr::unix(path).map_err(|_| Errno::ENAMETOOLONG)
}

/// The address that a socket is bound to.
pub(crate) fn local(fd: &impl AsFd) -> NetAddr {
    SockRef::from(fd).local_addr().map_or(NetAddr::default(), |addr| from_system(&addr))
}

/// Small messages go out at once. What is sent has been gathered in a ring already: to hold it back for
/// more would only delay it.
pub(crate) fn set_nodelay(fd: &impl AsFd, family: u16) {
    if matches!(family, NetAddr::V4 | NetAddr::V6) {
        let _ = SockRef::from(fd).set_tcp_nodelay(true);
    }
}

/// A descriptor whose readiness tokio watches. Where another task watches it and has been ended, that one is dropped
/// soon, but tasks that began later may run before that: this waits.
pub(crate) async fn watched<T: AsRawFd + Keeps>(
    mut fd: T,
    what: Interest,
) -> Result<AsyncFd<T>, Errno> {
    loop {
        // SAFETY: `Keeps` promises that it stays open and the same.
        let (again, error) = match unsafe { AsyncFd::register_with_interest(fd, what) } {
            Ok(watched) => return Ok(watched),
            Err(error) => error.into_parts(),
        };
        if error.raw_os_error() != Some(libc::EEXIST) {
            return Err(errno_of(&error));
        }
        fd = again;
        tokio::task::yield_now().await;
    }
}

/// What keeps its descriptor open, and the same one, as long as it lives.
///
/// # Safety
/// It does.
pub(crate) unsafe trait Keeps {}

// SAFETY: that is what it is.
unsafe impl Keeps for OwnedFd {}

/// The error number of a system call that failed.
pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, crate::engine::errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::RawFd;
    use std::os::unix::net::UnixDatagram;

    struct Raw(RawFd);

    impl AsRawFd for Raw {
        fn as_raw_fd(&self) -> RawFd {
            self.0
        }
    }

    // SAFETY: the test keeps the descriptor open.
    unsafe impl Keeps for Raw {}

    #[test]
    fn who_comes_before_the_last_has_gone_waits() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let (socket, _peer) = UnixDatagram::pair().unwrap();
            socket.set_nonblocking(true).unwrap();
            let raw = socket.as_raw_fd();
            let first = watched(Raw(raw), Interest::WRITABLE).await.unwrap();
            let second = tokio::spawn(watched(Raw(raw), Interest::WRITABLE));
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            assert!(!second.is_finished());
            drop(first);
            let second = second.await.unwrap().unwrap();
            drop(second.writable().await.unwrap());
        });
    }
}
