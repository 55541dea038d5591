//! How a file is opened.

use gpu_abi::OpenFlags;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    pub(crate) flags: OpenFlags,
    pub(crate) how: How,
}

/// What is known of an open file on this device alone: bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct How(pub(crate) u32);

impl How {
    /// Pages leave the cache after their use.
    pub(crate) const ONCE: How = How(1);
    /// Pages are fetched ahead of a reader.
    pub(crate) const AHEAD: How = How(2);
    /// It may be read.
    pub(crate) const READ: How = How(4);
    /// It may be written.
    pub(crate) const WRITE: How = How(8);
    /// Its size changes as it is written: the record knows it.
    pub(crate) const LIVE: How = How(16);
    /// Cut to nothing when it is opened.
    pub(crate) const TRUNCATE: How = How(32);
    /// Written at its end only.
    pub(crate) const APPEND: How = How(64);
    /// What is written may be lost.
    pub(crate) const TEMPORARY: How = How(128);

    pub(crate) const fn has(self, other: How) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn with(self, other: How) -> How {
        How(self.0 | other.0)
    }

    const fn without(self, other: How) -> How {
        How(self.0 & !other.0)
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions::new()
    }
}

impl OpenOptions {
    /// For reading.
    pub const fn new() -> OpenOptions {
        OpenOptions { flags: OpenFlags::READ, how: How(How::AHEAD.0 | How::READ.0) }
    }

    /// For reading and writing (`EACCES`, `EROFS`).
    pub const fn write(mut self) -> OpenOptions {
        self.flags = self.flags.with(OpenFlags::WRITE);
        self.how = self.how.with(How::WRITE);
        self
    }

    /// For writing alone, of bytes that nobody has written before: no page is ever fetched, whatever
    /// is written of it, and nothing can be read (`EBADF`). As GPUfs's `O_GWRONCE`. Whoever reads the file on this
    /// device meanwhile, by an open of its own, may see zeroes where the file has bytes.
    pub const fn write_once(self) -> OpenOptions {
        let mut options = self.write();
        options.how = options.how.without(How::READ);
        options
    }

    /// For writing at the end alone, wherever that is at that moment: [`File::append`](crate::File::append). Each goes to the host
    /// at once, so that those of several devices and of the host all survive.
    pub const fn append(self) -> OpenOptions {
        let mut options = self.write();
        options.how = options.how.with(How::APPEND);
        options
    }

    /// Make the file if there is none, for writing.
    pub const fn create(self) -> OpenOptions {
        let mut options = self.write();
        options.flags = options.flags.with(OpenFlags::CREATE);
        options
    }

    /// Make the file, for writing; `EEXIST` if the name is taken: of many who try one succeeds.
    pub const fn create_new(self) -> OpenOptions {
        let mut options = self.create();
        options.flags = options.flags.with(OpenFlags::EXCLUSIVE);
        options
    }

    /// Cut the file to nothing, unless it is open for writing on this device already: the threads of a
    /// kernel that all create one file share the one that the first of them made.
    pub const fn truncate(self) -> OpenOptions {
        let mut options = self.write();
        options.how = options.how.with(How::TRUNCATE);
        options
    }

    /// For writing what will not be needed for long: bytes go to the file only when their page is
    /// needed for others, [`File::sync`](crate::File::sync) writes nothing, and what is not in the file by the last close
    /// never comes there.
    pub const fn temporary(self) -> OpenOptions {
        let mut options = self.write();
        options.how = options.how.with(How::TEMPORARY);
        options
    }

    /// It must be a directory (`ENOTDIR`).
    pub const fn directory(mut self) -> OpenOptions {
        self.flags = self.flags.with(OpenFlags::DIRECTORY);
        self
    }

    /// Do not follow a symbolic link in the last component (`ELOOP`).
    pub const fn no_follow(mut self) -> OpenOptions {
        self.flags = self.flags.with(OpenFlags::NO_FOLLOW);
        self
    }

    /// Its pages will be used once: each leaves the cache when its last pin is given back, so that a
    /// long scan neither drives other pages out nor wanders through all of the cache's memory.
    pub const fn once(mut self) -> OpenOptions {
        self.how = self.how.with(How::ONCE);
        self
    }

    /// Whether pages are fetched ahead of a reader who goes through the file from page to page
    /// (default). Not worth it where many threads read parts of one file side by side: they keep the
    /// host busy as they are, and each would have the others' pages fetched anew.
    pub const fn read_ahead(mut self, ahead: bool) -> OpenOptions {
        self.how = if ahead { self.how.with(How::AHEAD) } else { self.how.without(How::AHEAD) };
        self
    }

    /// What makes an open that cannot be shared with those of other options.
    pub(crate) const fn sharing(&self) -> u32 {
        self.flags.0 as u32 | (self.how.0 & How::TRUNCATE.0) << 8
    }
}
