//! Compiling a kernel crate: one crate type, one module, everything in it.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::reach::Pieces;
use crate::toolchain::{Core, Toolchain};
use crate::{Error, TARGET, definite, ptx};

/// How to compile a kernel crate.
#[derive(Clone, Debug)]
pub struct Build {
    dir: PathBuf,
    target_dir: PathBuf,
    max_threads: u32,
    line_info: bool,
    features: Vec<String>,
}

/// A compiled kernel crate.
#[derive(Clone, Debug)]
pub struct Module {
    /// The PTX.
    pub ptx: String,
    /// The sources that went into it, as far as cargo says.
    pub sources: Vec<PathBuf>,
    /// What compiled it.
    pub toolchain: Toolchain,
}

impl Module {
    /// Writes each of these kernels, or each there is if none is named, with what it reaches to a file of its
    /// own in `dir`; the files.
    ///
    /// # Errors
    /// [`Error::Findings`] if there is no such kernel, [`Error::Io`].
    pub fn split(&self, kernels: &[String], dir: &Path) -> Result<Vec<PathBuf>, Error> {
        let finding = |what: String| Error::Findings(vec![what]);
        let pieces =
            Pieces::of(&self.ptx).ok_or_else(|| finding("the PTX is cut short".to_owned()))?;
        let all: Vec<&str> = match kernels {
            [] => pieces.kernels().collect(),
            some => some.iter().map(String::as_str).collect(),
        };
        let write = |name: &str| {
            let ptx = pieces.only(name).ok_or_else(|| finding(format!("no kernel `{name}`")))?;
            let path = dir.join(name).with_extension("ptx");
            std::fs::write(&path, ptx).map_err(Error::io("write", &path))?;
            Ok(path)
        };
        all.into_iter().map(write).collect()
    }
}

impl Build {
    /// Compiles the library of the crate in `dir`, with a target folder of its own in
    /// `dir/target/ptx` (or `$CARGO_TARGET_DIR/ptx`).
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Build {
        let dir = dir.into();
        let target = std::env::var_os("CARGO_TARGET_DIR");
        let target_dir = target.map_or_else(|| dir.join("target"), PathBuf::from).join("ptx");
        Build { dir, target_dir, max_threads: 1024, line_info: false, features: Vec::new() }
    }

    /// The folder of the crate.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where cargo keeps what it builds. Not a folder that a running cargo holds: the two would wait
    /// for each other.
    #[must_use]
    pub fn target_dir(mut self, dir: impl Into<PathBuf>) -> Build {
        self.target_dir = dir.into();
        self
    }

    /// The largest block, in threads, that the kernels will be launched with; 1,024 unless set. A kernel with
    /// `#[kernel(max_threads = N)]` has the smaller of the two.
    ///
    /// It decides how many registers a thread may have: 64 at 1,024 threads, 128 at 512, 255 at
    /// 256. A launch with larger blocks fails.
    #[must_use]
    pub fn max_threads(mut self, threads: u32) -> Build {
        self.max_threads = threads.clamp(1, 1024);
        self
    }

    /// Whether the PTX names the source line of each instruction, for profilers and debuggers; not
    /// unless set.
    #[must_use]
    pub fn line_info(mut self, yes: bool) -> Build {
        self.line_info = yes;
        self
    }

    /// Turns a feature of the crate on.
    #[must_use]
    pub fn feature(mut self, name: impl Into<String>) -> Build {
        self.features.push(name.into());
        self
    }

    /// Compiles.
    ///
    /// # Errors
    /// [`Error::NoToolchain`], [`Error::Compile`], [`Error::NoPtx`], [`Error::Io`].
    pub fn run(&self) -> Result<Module, Error> {
        self.run_with(Toolchain::find()?)
    }

    /// Compiles with a given toolchain.
    ///
    /// # Errors
    /// As [`Build::run`].
    pub fn run_with(&self, toolchain: Toolchain) -> Result<Module, Error> {
        let dir = self.dir.canonicalize().map_err(Error::io("find", &self.dir))?;
        std::fs::create_dir_all(&self.target_dir).map_err(Error::io("create", &self.target_dir))?;
        let target_dir =
            self.target_dir.canonicalize().map_err(Error::io("find", &self.target_dir))?;
        let _one_at_a_time = lock(&target_dir)?;
        let raw = self.raw(&dir, &target_dir, &toolchain);
        if !raw.exists() {
            for link in links(&target_dir, &dir) {
                // If it stays, cargo may compile nothing, and we say that there is no PTX.
                let _ = std::fs::remove_file(link);
            }
        }
        let output = self
            .command(&toolchain, &dir, &target_dir, &raw)
            .output()
            .map_err(Error::io("start", &toolchain.cargo))?;
        if !output.status.success() {
            let output = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::Compile { dir, output });
        }
        let Ok(text) = std::fs::read_to_string(&raw) else {
            return Err(Error::NoPtx { path: raw });
        };
        // Empty files will do; then what has not changed is not compiled again.
        for link in links(&target_dir, &dir) {
            std::fs::write(&link, "").map_err(Error::io("write", &link))?;
        }
        let ptx = ptx::limit_threads(&definite::assign(&text), self.max_threads);
        Ok(Module { ptx, sources: sources(&target_dir, &dir), toolchain })
    }

    /// Where the compiler leaves what it makes of the crate in `dir`. Whatever cargo keeps apart has a name of its
    /// own: it would not compile again what it has compiled before, whoever has overwritten this since.
    fn raw(&self, dir: &Path, target_dir: &Path, toolchain: &Toolchain) -> PathBuf {
        let name = dir.file_name().map_or("kernels".into(), |n| n.to_string_lossy().into_owned());
        let mut hasher = DefaultHasher::new();
        (dir, self.line_info, &self.features).hash(&mut hasher);
        (&toolchain.rustc, &toolchain.version, toolchain.core).hash(&mut hasher);
        target_dir.join(format!("{name}-{:016x}.s", hasher.finish()))
    }

    fn command(&self, toolchain: &Toolchain, dir: &Path, target_dir: &Path, asm: &Path) -> Command {
        let mut command = Command::new(&toolchain.cargo);
        command
            .current_dir(dir)
            .stdin(Stdio::null())
            .args(["rustc", "--lib", "--release", "--target", TARGET])
            .arg("--target-dir")
            .arg(target_dir);
        if toolchain.core == Core::FromSource {
            command.arg("-Zbuild-std=core");
        }
        if !self.features.is_empty() {
            command.arg("--features").arg(self.features.join(","));
        }
        // A cdylib alone: with an rlib beside it there is no link-time optimisation, and symbols
        // stay undefined.
        command.args(["--crate-type", "cdylib", "--"]);
        command.arg(format!("--emit=asm={},link", asm.display()));

        // What a cargo that runs us, or its user, has set for the host.
        for name in [
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTUP_TOOLCHAIN",
            "CARGO",
            "CARGO_BUILD_TARGET",
            "CARGO_TARGET_DIR",
        ] {
            command.env_remove(name);
        }
        command
            .env("RUSTC", &toolchain.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
            // The "linker": the PTX is complete without one.
            .env("CARGO_TARGET_NVPTX64_NVIDIA_CUDA_LINKER", "true")
            .env("CARGO_PROFILE_RELEASE_LTO", "fat")
            .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
            .env("CARGO_PROFILE_RELEASE_STRIP", "none")
            .env(
                "CARGO_PROFILE_RELEASE_DEBUG",
                if self.line_info { "line-tables-only" } else { "0" },
            );
        command
    }
}

/// The flags for each crate that is compiled for the GPU.
const FLAGS: [&str; 7] = [
    // The oldest machine on which each thread makes progress of its own.
    "-Ctarget-cpu=sm_70",
    // The oldest PTX that has all the instructions used.
    "-Ctarget-feature=+ptx70",
    // What `#[kernel]` expands to needs it, wherever it stands.
    "-Zcrate-attr=feature(abi_ptx)",
    "-Aunused_features",
    "-Ainternal_features",
    // The compiler multiplies the threshold for GPUs by eleven. Left alone, it makes PTX that ptxas
    // takes three times as long for, with more registers. And it gives each address of a loop
    // a register pair of its own, counted up in step: copies spilled for that, and a small read took
    // 5% more instructions.
    "-Cllvm-args=-inline-threshold=25 -disable-lsr",
    "-Csymbol-mangling-version=v0",
];

/// Keeps others from compiling to this folder until the file is dropped. Cargo's own lock ends with cargo, and
/// what it leaves is read after that: by several, where an editor builds too, or another profile.
fn lock(target_dir: &Path) -> Result<File, Error> {
    let path = target_dir.join(".ptx-build.lock");
    let file = File::create(&path).map_err(Error::io("create", &path))?;
    // Some file systems have no locks; cargo goes on there, too.
    let _ = file.lock();
    Ok(file)
}

/// What cargo looks for where its linker should have put the library of `dir`: it compiles again if there is
/// nothing, and ours puts nothing there.
fn links(target_dir: &Path, dir: &Path) -> Vec<PathBuf> {
    let deps = release(target_dir).join("deps");
    let link = |note: &Path| Some(deps.join(note.with_extension("ptx").file_name()?));
    notes(target_dir, dir).iter().filter_map(|(note, _)| link(note)).collect()
}

fn release(target_dir: &Path) -> PathBuf {
    target_dir.join(TARGET).join("release")
}

/// What cargo has noted down about libraries with sources in `dir`: where, and what their sources are.
fn notes(target_dir: &Path, dir: &Path) -> Vec<(PathBuf, Vec<PathBuf>)> {
    let entries = std::fs::read_dir(release(target_dir)).into_iter().flatten().flatten();
    let notes = entries.map(|e| e.path()).filter(|path| path.extension().is_some_and(|e| e == "d"));
    let read = |note: PathBuf| Some((std::fs::read_to_string(&note).ok()?, note));
    let lists = notes.filter_map(read).map(|(text, note)| (note, dependencies(&text)));
    lists.filter(|(_, files)| files.iter().any(|file| file.starts_with(dir))).collect()
}

/// The sources of the library of `dir`, which cargo has noted down beside it, and maybe beside those of
/// other crates.
fn sources(target_dir: &Path, dir: &Path) -> Vec<PathBuf> {
    let mut sources: Vec<_> =
        notes(target_dir, dir).into_iter().flat_map(|(_, files)| files).collect();
    // What is generated on the way would always be newer than what depends on it.
    sources.retain(|source| !source.starts_with(target_dir));
    sources.sort();
    sources.dedup();
    sources
}

/// The files after the colon in each line of a make file; spaces in names are escaped.
fn dependencies(text: &str) -> Vec<PathBuf> {
    let lists = text.lines().filter_map(|line| line.split_once(": "));
    let mut files = Vec::new();
    for (_, list) in lists {
        let list = list.replace("\\ ", "\0");
        files.extend(list.split_whitespace().map(|f| PathBuf::from(f.replace('\0', " "))));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn who_compiles_to_a_folder_waits_for_others_who_do() {
        let dir = tempfile::tempdir().unwrap();
        let others = lock(dir.path()).unwrap();
        let toolchain = Toolchain {
            rustc: "/nowhere/rustc".into(),
            cargo: "/nowhere/cargo".into(),
            version: String::new(),
            core: Core::Installed,
        };
        let build = Build::new(dir.path()).target_dir(dir.path());
        std::thread::scope(|scope| {
            let run = scope.spawn(|| build.run_with(toolchain));
            std::thread::sleep(Duration::from_millis(100));
            assert!(!run.is_finished());
            drop(others);
            // That there is no such cargo was found out only then.
            assert!(matches!(run.join().unwrap(), Err(Error::Io { doing: "start", .. })));
        });
    }

    #[test]
    fn sources_are_read_from_make_files() {
        let text = "/t/libk.so: /k/src/lib.rs /with\\ space/a.rs\n";
        assert_eq!(
            dependencies(text),
            [PathBuf::from("/k/src/lib.rs"), PathBuf::from("/with space/a.rs")]
        );
    }
}
