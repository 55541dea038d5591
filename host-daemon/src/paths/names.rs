//! Names: removed, renamed, made.
//!
//! These operations act on the last component of a path, which they never follow. Below a root the
//! rest of the path, its parent, is opened inside the root first; the last component, with the
//! slashes behind it, is left to the kernel, which knows what each operation makes of `.`, `..`, a
//! slash and a symbolic link: none of these leads anywhere without more components.

use super::{View, errno};
use gpu_abi::Errno;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, mkdirat, renameat_with, unlinkat};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Where a name is, or is to be: a directory, and the last component of a path.
struct Place<'a> {
    parent: Parent<'a>,
    name: &'a CStr,
    /// The path has no component at all: it is the root.
    is_root: bool,
}

enum Parent<'a> {
    /// The working directory, or the root of the view.
    Whole(BorrowedFd<'a>),
    Opened(OwnedFd),
}

impl AsFd for Place<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.parent {
            Parent::Whole(fd) => *fd,
            Parent::Opened(fd) => fd.as_fd(),
        }
    }
}

/// The number of bytes before the last component.
fn parent_len(path: &[u8]) -> usize {
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |last| last + 1);
    path[..end].iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1)
}

impl View {
    fn place<'a>(&'a self, path: &'a CStr) -> Result<Place<'a>, Errno> {
        let root = match self {
            View::Process => {
                return Ok(Place { parent: Parent::Whole(CWD), name: path, is_root: false });
            }
            View::Root(root) => root.as_fd(),
        };
        let bytes = path.to_bytes();
        if bytes.iter().all(|b| *b == b'/') {
            return Ok(Place { parent: Parent::Whole(root), name: c".", is_root: true });
        }
        let at = parent_len(bytes);
        let parent = if bytes[..at].iter().all(|b| *b == b'/') {
            Parent::Whole(root)
        } else {
            let parent = CString::new(&bytes[..at]).map_err(|_| Errno::EINVAL)?;
            Parent::Opened(
                self.open_raw(&parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)?,
            )
        };
        // The NUL is still at its end.
        let name = CStr::from_bytes_with_nul(&path.to_bytes_with_nul()[at..]);
        Ok(Place { parent, name: name.map_err(|_| Errno::EINVAL)?, is_root: false })
    }

    /// O14.
    pub(crate) fn unlink(&self, path: &CStr, directory: bool) -> Result<(), Errno> {
        let place = self.place(path)?;
        if directory && place.is_root {
            // What rmdir says to `/`; to the `.` that stands for it, it would say `EINVAL`.
            return Err(Errno::EBUSY);
        }
        let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        unlinkat(&place, place.name, flags).map_err(errno)
    }

    /// O15.
    pub(crate) fn rename(&self, old: &CStr, new: &CStr, replace: bool) -> Result<(), Errno> {
        let (old, new) = (self.place(old)?, self.place(new)?);
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        renameat_with(&old, old.name, &new, new.name, flags).map_err(errno)
    }

    /// O16.
    pub(crate) fn make_dir(&self, path: &CStr) -> Result<(), Errno> {
        let place = self.place(path)?;
        mkdirat(&place, place.name, Mode::from_raw_mode(0o777)).map_err(errno)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v10_the_last_component_keeps_its_slashes() {
        for (path, parent) in [
            ("a", ""),
            ("a/", ""),
            ("/a", "/"),
            ("//a//", "//"),
            ("a/b", "a/"),
            ("/a//b///", "/a//"),
            ("a/..", "a/"),
            ("..", ""),
            ("a/.", "a/"),
        ] {
            assert_eq!(parent_len(path.as_bytes()), parent.len(), "{path}");
        }
    }
}
