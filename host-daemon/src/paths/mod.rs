//! From a path in a ring to an open file or a description. `names` makes, moves and removes names.

mod names;

use crate::files::{Held, Kind, Opened};
use crate::versions::{Stamp, Versions};
use gpu_abi::{Errno, FileInfo, OpenFlags};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, fstat, fstatfs, openat, openat2, statfs,
    statx,
};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Duration;

/// Magic numbers of file systems that live in memory: what they do never waits, and reads that
/// must not wait (`RWF_NOWAIT`) are not supported everywhere.
const IN_MEMORY: [i64; 2] = [0x0102_1994 /* tmpfs */, 0x8584_58f6 /* ramfs */];

/// Which mounted file systems live in memory, by device number: asked once for each.
///
/// A number can come to mean another file system. To take a stored one for one in memory costs a
/// worker the wait for a disk; the other way round costs a system call that is refused.
#[derive(Default)]
pub(crate) struct FileSystems(RwLock<Vec<(u64, bool)>>);

impl FileSystems {
    fn is_in_memory(&self, dev: u64, fd: &OwnedFd) -> Result<bool, Errno> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, in_memory)) = known.iter().find(|(d, _)| *d == dev) {
            return Ok(*in_memory);
        }
        drop(known);
        let in_memory = IN_MEMORY.contains(&fstatfs(fd).map_err(errno)?.f_type);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Few are mounted; if there are very many the list is not the place for them.
        if known.len() < 64 {
            known.push((dev, in_memory));
        }
        Ok(in_memory)
    }
}

/// A client's view of the file system.
pub(crate) enum View {
    /// That of this process.
    Process,
    /// Everything below a directory, and nothing else.
    Root(OwnedFd),
}

pub(crate) fn errno(e: rustix::io::Errno) -> Errno {
    Errno::from_raw(e.raw_os_error() as u32).unwrap_or(Errno::EIO)
}

/// `path` as a C string in `buffer`: `EINVAL` if it holds a NUL.
pub(crate) fn c_path(buffer: &mut Vec<u8>) -> Result<&CStr, Errno> {
    buffer.push(0);
    CStr::from_bytes_with_nul(buffer).map_err(|_| Errno::EINVAL)
}

impl View {
    fn open_raw(&self, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
        // 0666, less the process's umask; openat2 refuses a mode where nothing is made.
        let mode =
            if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o666) } else { Mode::empty() };
        match self {
            View::Process => openat(CWD, path, flags, mode).map_err(errno),
            View::Root(root) => {
                let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
                let mut tries = 0;
                loop {
                    match openat2(root, path, flags, mode, resolve) {
                        // A rename elsewhere raced with a `..` of ours: the kernel asks us to try
                        // again. Bounded, since somebody may rename all day.
                        Err(rustix::io::Errno::AGAIN) if tries < 32 => tries += 1,
                        Err(e) => return Err(errno(e)),
                        Ok(fd) => return Ok(fd),
                    }
                }
            }
        }
    }

    /// Opens a file. Blocks as long as the file system takes to resolve the path: a network file
    /// system that hangs here holds up this worker, not the others.
    pub(crate) fn open_file(&self, path: &CStr, flags: OpenFlags) -> Result<OwnedFd, Errno> {
        let access = match (flags.contains(OpenFlags::READ), flags.contains(OpenFlags::WRITE)) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            _ => OFlags::RDONLY,
        };
        // Non-blocking: opening a FIFO must not wait for its other end.
        let mut oflags = access | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        oflags.set(OFlags::DIRECTORY, flags.contains(OpenFlags::DIRECTORY));
        oflags.set(OFlags::NOFOLLOW, flags.contains(OpenFlags::NO_FOLLOW));
        oflags.set(OFlags::CREATE, flags.contains(OpenFlags::CREATE));
        oflags.set(OFlags::EXCL, flags.contains(OpenFlags::EXCLUSIVE));
        self.open_raw(path, oflags)
    }

    /// As [`View::open_file`], with what there is to know about the file.
    pub(crate) fn open(
        &self,
        path: &CStr,
        flags: OpenFlags,
        versions: &Versions,
        file_systems: &FileSystems,
    ) -> Result<(Opened, FileInfo), Errno> {
        let fd = self.open_file(path, flags)?;
        let writable = flags.contains(OpenFlags::WRITE);
        let patience = if writable { Patience::None } else { Patience::ForTheTick };
        let info = describe(fd.as_fd(), c"", versions, patience)?;
        let kind = kind_of(&fd, info.mode, info.dev, file_systems)?;
        // The length of a file that this client may change says nothing about its end.
        let size = if info.is_file() && !writable { info.size } else { 0 };
        Ok((Opened { fd, kind, size, writable }, info))
    }

    /// Describes what a path leads to, symbolic links followed.
    pub(crate) fn stat(&self, path: &CStr, versions: &Versions) -> Result<FileInfo, Errno> {
        match self {
            View::Process => describe(CWD, path, versions, Patience::ForTheTick),
            View::Root(_) => {
                let fd = self.open_raw(path, OFlags::PATH | OFlags::CLOEXEC)?;
                describe(fd.as_fd(), c"", versions, Patience::ForTheTick)
            }
        }
    }
}

/// What kind of waiting reads and writes of a descriptor involve.
pub(crate) fn kind(fd: &OwnedFd, file_systems: &FileSystems) -> Result<Kind, Errno> {
    let stat = fstat(fd).map_err(errno)?;
    kind_of(fd, stat.st_mode, stat.st_dev, file_systems)
}

/// Which file a held one is, for `Versions`.
pub(crate) fn identity(file: &Held) -> Option<(u64, u64)> {
    // SAFETY: held, so it stays open for the call.
    let stat = fstat(unsafe { BorrowedFd::borrow_raw(file.fd) }).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

fn kind_of(fd: &OwnedFd, mode: u32, dev: u64, file_systems: &FileSystems) -> Result<Kind, Errno> {
    Ok(match mode & libc::S_IFMT {
        libc::S_IFREG if file_systems.is_in_memory(dev, fd)? => Kind::InMemory,
        libc::S_IFREG | libc::S_IFBLK => Kind::Stored,
        _ => Kind::Other,
    })
}

/// File systems whose times are multigrain from Linux 6.13 on: once a file's ctime has been looked
/// at, the next change is sure to get another, however soon it comes.
const MULTIGRAIN: [i64; 4] = [
    0xEF53,      /* ext4 */
    0x5846_5342, /* xfs */
    0x9123_683E, /* btrfs */
    0x0102_1994, /* tmpfs */
];

/// Longer than a tick of the kernel's clock.
const TICK: Duration = Duration::from_millis(11);

/// Whether a description may take its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It waits for the tick of the kernel's clock to end, if the version depends on that.
    ForTheTick,
    /// It waits for nothing: the file is about to change again, or has just been changed by who asks,
    /// and each such call would wait. The version is then one that is not given out again.
    None,
}

/// Describes `path` as seen from `at`; the empty path is `at` itself.
///
/// Where two writes in one tick of the kernel's clock could get the same ctime, and the last one
/// was in the present tick, this waits for the tick to end, once, if `patience` allows it.
pub(crate) fn describe(
    at: BorrowedFd<'_>,
    path: &CStr,
    versions: &Versions,
    patience: Patience,
) -> Result<FileInfo, Errno> {
    let mut waited = patience == Patience::None;
    loop {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        let now = (now.tv_sec, now.tv_nsec as u32);
        let flags = if path.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::empty() };
        let s = statx(at, path, flags, StatxFlags::BASIC_STATS).map_err(errno)?;
        let stamp = Stamp {
            size: s.stx_size,
            mtime: (s.stx_mtime.tv_sec, s.stx_mtime.tv_nsec),
            ctime: (s.stx_ctime.tv_sec, s.stx_ctime.tv_nsec),
        };
        let mode = u32::from(s.stx_mode);
        let regular = mode & libc::S_IFMT == libc::S_IFREG;
        // The clock was read before the file: a write after the description gets a ctime of `now`
        // or later. Every change of content sets ctime, and only the clock sets ctime.
        let settled = stamp.ctime < now || regular && is_multigrain(at, path);
        if regular && !settled && !waited && stamp.ctime.0 <= now.0 + 1 {
            waited = true;
            std::thread::sleep(TICK);
            continue;
        }
        let dev = rustix::fs::makedev(s.stx_dev_major, s.stx_dev_minor);
        let version = if regular { versions.of((dev, s.stx_ino), stamp, settled) } else { 0 };
        return Ok(FileInfo {
            size: s.stx_size,
            mtime_ns: stamp
                .mtime
                .0
                .saturating_mul(1_000_000_000)
                .saturating_add(stamp.mtime.1.into()),
            ino: s.stx_ino,
            dev,
            version,
            mode,
            nlink: s.stx_nlink,
            reserved: 0,
        });
    }
}

/// Whether the file's next change gets a ctime of its own.
fn is_multigrain(at: BorrowedFd<'_>, path: &CStr) -> bool {
    static KERNEL: OnceLock<bool> = OnceLock::new();
    let kernel = KERNEL.get_or_init(|| {
        let uname = rustix::system::uname();
        is_since_6_13(uname.release().to_str().unwrap_or(""))
    });
    let fs = || if path.is_empty() { fstatfs(at) } else { statfs(path) };
    *kernel && fs().is_ok_and(|fs| MULTIGRAIN.contains(&fs.f_type))
}

fn is_since_6_13(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 13)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o4_kernels_are_told_apart() {
        for (release, since) in [
            ("6.13.0", true),
            ("6.18.44-x", true),
            ("7.0", true),
            ("6.12.9", false),
            ("5.15", false),
            ("", false),
        ] {
            assert_eq!(is_since_6_13(release), since, "{release}");
        }
    }

    #[test]
    fn o4_every_write_makes_a_version_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let c = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        let versions = Versions::new();
        let version = || describe(CWD, &c, &versions, Patience::ForTheTick).unwrap().version;
        let mut last = 0;
        for content in 0..50u8 {
            // Of the same size each time: only the times differ.
            std::fs::write(&path, [content]).unwrap();
            let now = version();
            assert_ne!(now, last);
            assert_eq!(version(), now);
            last = now;
        }
    }
}
