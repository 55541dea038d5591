//! Names: made, moved and removed, over every engine, in the process's view and below a root.

#[macro_use]
mod common;

use common::{CONFIG, Rig};
use gpu_abi::request::RENAME_NO_REPLACE;
use gpu_abi::{Errno, Op, OpenFlags, Request};
use host_daemon::{Grant, Options};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

over_engines! {
    o14_unlink_removes_names_and_not_files,
    o15_rename_moves_and_replaces,
    o16_directories_are_made,
    o15_v6_both_paths_are_judged,
    v10_names_do_as_in_a_chroot,
    v10_no_name_outside_the_root_is_touched,
}

/// A rig whose view is `root`, given as a grant or as a prefix of every path.
struct View {
    rig: Rig,
    prefix: String,
}

impl View {
    fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }
    fn unlink(&mut self, path: &str) -> Result<(), Errno> {
        let path = self.path(path);
        self.rig.unlink(&path)
    }
    fn rmdir(&mut self, path: &str) -> Result<(), Errno> {
        let path = self.path(path);
        self.rig.rmdir(&path)
    }
    fn mkdir(&mut self, path: &str) -> Result<(), Errno> {
        let path = self.path(path);
        self.rig.mkdir(&path)
    }
    fn rename(&mut self, old: &str, new: &str, flags: u8) -> Result<(), Errno> {
        let (old, new) = (self.path(old), self.path(new));
        self.rig.rename(&old, &new, flags)
    }
}

fn rig(options: Options, spawned: bool, root: Option<&Path>) -> Rig {
    let grant = Grant { root: root.map(Into::into), ..Grant::default() };
    let mut rig = Rig::new(options, CONFIG, grant);
    if spawned {
        rig.client().spawn(2).unwrap();
        rig.driven = false;
    }
    rig
}

/// The same test in both views, each in a directory of its own.
fn in_both_views(options: &Options, spawned: bool, test: impl Fn(&mut View, &Path)) {
    for granted in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let root = granted.then_some(dir.path());
        let prefix =
            if granted { String::new() } else { format!("{}/", dir.path().to_str().unwrap()) };
        test(&mut View { rig: rig(options.clone(), spawned, root), prefix }, dir.path());
    }
}

fn o14_unlink_removes_names_and_not_files(options: Options, spawned: bool) {
    in_both_views(&options, spawned, |view, dir| {
        fs::write(dir.join("f"), b"content").unwrap();
        fs::create_dir_all(dir.join("d/sub")).unwrap();
        symlink("f", dir.join("to-f")).unwrap();
        symlink("d", dir.join("to-d")).unwrap();
        let handle = view.rig.open(&view.path("f")).unwrap();
        assert_eq!(view.unlink("none"), Err(Errno::ENOENT));
        assert_eq!(view.unlink("d"), Err(Errno::EISDIR));
        assert_eq!(view.unlink("f/"), Err(Errno::ENOTDIR));
        assert_eq!(view.unlink("to-f/"), Err(Errno::ENOTDIR));
        assert_eq!(view.unlink("f/x"), Err(Errno::ENOTDIR));
        assert_eq!(view.unlink("d/."), Err(Errno::EISDIR));
        assert_eq!(view.unlink("d/.."), Err(Errno::EISDIR));
        assert_eq!(view.rmdir("f"), Err(Errno::ENOTDIR));
        assert_eq!(view.rmdir("to-d"), Err(Errno::ENOTDIR));
        assert_eq!(view.rmdir("to-d/"), Err(Errno::ENOTDIR));
        assert_eq!(view.rmdir("d"), Err(Errno::ENOTEMPTY));
        assert_eq!(view.rmdir("d/."), Err(Errno::EINVAL));
        assert_eq!(view.rmdir("d/.."), Err(Errno::ENOTEMPTY));
        assert_eq!(view.unlink("to-f"), Ok(()));
        assert!(dir.join("f").exists(), "the link was not followed");
        assert_eq!(view.unlink("f"), Ok(()));
        assert!(!dir.join("f").exists());
        assert_eq!(view.rig.read(handle, 0, 100).as_deref(), Ok(&b"content"[..]));
        assert_eq!(view.rmdir("to-d/sub//"), Ok(()), "before the last component links count");
        assert_eq!(view.unlink("to-d"), Ok(()));
        assert_eq!(view.rmdir("d"), Ok(()));
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
    });
}

fn o15_rename_moves_and_replaces(options: Options, spawned: bool) {
    in_both_views(&options, spawned, |view, dir| {
        let read = |name: &str| fs::read(dir.join(name)).unwrap();
        fs::write(dir.join("a"), b"a").unwrap();
        fs::write(dir.join("b"), b"b").unwrap();
        fs::create_dir_all(dir.join("d/sub")).unwrap();
        fs::create_dir(dir.join("empty")).unwrap();
        symlink("d", dir.join("to-d")).unwrap();
        assert_eq!(view.rename("a", "b", RENAME_NO_REPLACE), Err(Errno::EEXIST));
        assert_eq!(read("b"), b"b");
        assert_eq!(view.rename("a", "b", 0), Ok(()));
        assert_eq!(read("b"), b"a");
        assert!(!dir.join("a").exists());
        assert_eq!(view.rename("b", "to-d/c", RENAME_NO_REPLACE), Ok(()));
        assert_eq!(read("d/c"), b"a");
        assert_eq!(view.rename("none", "x", 0), Err(Errno::ENOENT));
        assert_eq!(view.rename("d/c", "none/x", 0), Err(Errno::ENOENT));
        assert_eq!(view.rename("d/c", "empty", 0), Err(Errno::EISDIR));
        assert_eq!(view.rename("d", "d/c", 0), Err(Errno::EINVAL), "into itself");
        assert_eq!(view.rename("d/c", "x/", 0), Err(Errno::ENOTDIR));
        assert_eq!(view.rename("d/.", "x", 0), Err(Errno::EBUSY));
        assert_eq!(view.rename("d/c", "d/..", 0), Err(Errno::EBUSY));
        assert_eq!(view.rename("empty", "d/sub", RENAME_NO_REPLACE), Err(Errno::EEXIST));
        assert_eq!(view.rename("empty/", "d/sub/", 0), Ok(()));
        // A link itself is moved, and replaced.
        assert_eq!(view.rename("to-d", "link", 0), Ok(()));
        assert!(dir.join("link").is_symlink());
        assert_eq!(view.rename("d/c", "link", 0), Ok(()));
        assert_eq!(read("link"), b"a");
        assert!(dir.join("d/sub").is_dir());
    });
}

fn o16_directories_are_made(options: Options, spawned: bool) {
    in_both_views(&options, spawned, |view, dir| {
        assert_eq!(view.mkdir("a"), Ok(()));
        assert_eq!(view.mkdir("a/b//"), Ok(()));
        assert!(dir.join("a/b").is_dir());
        assert_eq!(view.mkdir("a"), Err(Errno::EEXIST));
        assert_eq!(view.mkdir("a/.."), Err(Errno::EEXIST));
        assert_eq!(view.mkdir("none/c"), Err(Errno::ENOENT));
        symlink("nowhere", dir.join("dangling")).unwrap();
        assert_eq!(view.mkdir("dangling"), Err(Errno::EEXIST));
        let long = view.path(&"n".repeat(256));
        assert_eq!(view.rig.mkdir(&long), Err(Errno::ENAMETOOLONG));
        let info = view.rig.stat_path(&view.path("a")).unwrap();
        assert!(info.is_dir() && info.mode & 0o700 == 0o700);
    });
}

fn o15_v6_both_paths_are_judged(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), b"").unwrap();
    let mut rig = rig(options, spawned, Some(dir.path()));
    assert_eq!(rig.rename("", "b", 0), Err(Errno::ENOENT));
    assert_eq!(rig.rename("a", "", 0), Err(Errno::ENOENT));
    assert_eq!(rig.rename("a\0x", "b", 0), Err(Errno::EINVAL));
    assert_eq!(rig.rename("a", "b\0", 0), Err(Errno::EINVAL));
    let long = "x".repeat(4096);
    assert_eq!(rig.rename("a", &long, 0), Err(Errno::ENAMETOOLONG));
    assert_eq!(rig.rename(&long, "b", 0), Err(Errno::ENAMETOOLONG));
    let longest = "x/".repeat(2047);
    assert_eq!(rig.rename(&longest, &longest, 0), Err(Errno::ENOENT), "both just fit");
    assert_eq!(rig.rename("a", "b", 2), Err(Errno::EINVAL));
    let r = rig.with_buffer(Op::Rename, 0, 0, 3);
    assert_eq!(rig.call(Request { path_len: 4, ..r }).result(), Err(Errno::EINVAL));
    assert_eq!(rig.call(Request { path_len: u32::MAX, ..r }).result(), Err(Errno::EINVAL));
    assert!(dir.path().join("a").exists());
}

fn v10_names_do_as_in_a_chroot(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), b"").unwrap();
    let mut rig = rig(options, spawned, Some(dir.path()));
    for root in ["/", "//", "///"] {
        assert_eq!(rig.mkdir(root), Err(Errno::EEXIST), "{root}");
        assert_eq!(rig.rmdir(root), Err(Errno::EBUSY), "{root}");
        assert_eq!(rig.unlink(root), Err(Errno::EISDIR), "{root}");
        assert_eq!(rig.rename(root, "x", 0), Err(Errno::EBUSY), "{root}");
        assert_eq!(rig.rename("f", root, 0), Err(Errno::EBUSY), "{root}");
        assert_eq!(rig.rename("f", root, RENAME_NO_REPLACE), Err(Errno::EEXIST), "{root}");
    }
    assert_eq!(rig.rmdir("."), Err(Errno::EINVAL));
    assert_eq!(rig.rmdir(".."), Err(Errno::ENOTEMPTY));
    assert_eq!(rig.mkdir("/.."), Err(Errno::EEXIST));
    assert_eq!(rig.mkdir("../../d"), Ok(()), "the root is its own parent");
    assert_eq!(rig.rename("/../f", "/d/../../d/g", 0), Ok(()));
    assert!(dir.path().join("d/g").is_file());
    let new = OpenFlags::WRITE.with(OpenFlags::CREATE);
    assert!(rig.open_with(b"/../h", new).is_ok());
    assert_eq!(rig.open_with(b"d/", new).err(), Some(Errno::EISDIR));
    assert!(dir.path().join("h").is_file());
}

fn v10_no_name_outside_the_root_is_touched(options: Options, spawned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let (root, out) = (dir.path().join("root"), dir.path().join("out"));
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::create_dir_all(out.join("empty")).unwrap();
    fs::write(out.join("secret"), b"secret").unwrap();
    fs::write(root.join("mine"), b"mine").unwrap();
    symlink(&out, root.join("absolute")).unwrap();
    symlink("../../out", root.join("sub/relative")).unwrap();
    symlink("../out/made", root.join("dangling")).unwrap();
    symlink("/proc/self/cwd", root.join("magic")).unwrap();
    let mut rig = rig(options, spawned, Some(&root));
    let absolute = out.to_str().unwrap();
    let new = OpenFlags::WRITE.with(OpenFlags::CREATE);
    for parent in ["absolute", "sub/relative", "../out", "sub/../../out", absolute, "magic"] {
        let at = |name: &str| format!("{parent}/{name}");
        let none = Err(Errno::ENOENT);
        assert_eq!(rig.unlink(&at("secret")), none, "{parent}");
        assert_eq!(rig.rmdir(&at("empty")), none, "{parent}");
        assert_eq!(rig.mkdir(&at("made")), none, "{parent}");
        assert_eq!(rig.rename(&at("secret"), "stolen", 0), none, "{parent}");
        assert_eq!(rig.rename("mine", &at("given"), 0), none, "{parent}");
        assert_eq!(rig.open_with(at("made").as_bytes(), new).err(), Some(Errno::ENOENT));
        assert_eq!(
            rig.open_with(at("secret").as_bytes(), OpenFlags::WRITE).err(),
            Some(Errno::ENOENT)
        );
    }
    // Inside the root there is no such directory to make the file in.
    assert_eq!(rig.open_with(b"dangling", new).err(), Some(Errno::ENOENT));
    let mut names: Vec<_> =
        fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["empty", "secret"]);
    assert_eq!(fs::read(out.join("secret")).unwrap(), b"secret");
    assert_eq!(fs::read(root.join("mine")).unwrap(), b"mine");
}
