//! Other programs: found, run, timed.

use crate::Result;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// A program that this one is compared with.
pub(crate) struct Tool {
    /// Its file name.
    pub(crate) program: &'static str,
    /// The Debian package that brings it.
    pub(crate) package: &'static str,
}

pub(crate) const FIO: Tool = Tool { program: "fio", package: "fio" };
pub(crate) const GREP: Tool = Tool { program: "grep", package: "grep" };
pub(crate) const RG: Tool = Tool { program: "rg", package: "ripgrep" };
pub(crate) const NGINX: Tool = Tool { program: "nginx", package: "nginx-light" };
pub(crate) const WRK: Tool = Tool { program: "wrk", package: "wrk" };

impl Tool {
    /// Where it is, or what to install.
    pub(crate) fn find(&self) -> Result<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Servers lie where not everybody looks.
        let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        let mut found = dirs.map(|dir| dir.join(self.program));
        found.find(|file| file.is_file()).ok_or_else(|| {
            let Tool { program, package } = self;
            format!("{program} is not installed; Debian's package {package} brings it").into()
        })
    }

    /// What it calls itself, in one line.
    pub(crate) fn version(&self) -> Result<String> {
        let out = Command::new(self.find()?).arg("--version").output()?;
        let text = String::from_utf8_lossy(&out.stdout);
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }
}

/// A command line as one would type it.
pub(crate) fn shown(program: &Path, args: &[impl AsRef<str>]) -> String {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    args.iter().fold(name.into_owned(), |line, arg| {
        let arg = arg.as_ref();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:+".contains(c);
        if !arg.is_empty() && arg.chars().all(plain) {
            format!("{line} {arg}")
        } else {
            format!("{line} '{}'", arg.replace('\'', "'\\''"))
        }
    })
}

/// A run of a program.
pub(crate) struct Ran {
    /// From before it was started to after it ended and all it wrote was read.
    pub(crate) seconds: f64,
    /// What it wrote to its standard output.
    pub(crate) out: Vec<u8>,
}

/// Runs a program whole, in `dir`. Ends with `good` are fine.
pub(crate) fn run(
    program: &Path,
    args: &[impl AsRef<str>],
    dir: &Path,
    good: &[i32],
) -> Result<Ran> {
    let mut command = Command::new(program);
    // Bytes, not characters: what all the programs here agree on.
    command
        .args(args.iter().map(AsRef::as_ref))
        .env("LC_ALL", "C")
        .current_dir(dir)
        .stdin(Stdio::null());
    let start = Instant::now();
    let done = command.output().map_err(|e| format!("{}: {e}", program.display()))?;
    let seconds = start.elapsed().as_secs_f64();
    if !done.status.code().is_some_and(|code| good.contains(&code)) {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(format!("{}: {}: {said}", shown(program, args), done.status).into());
    }
    Ok(Ran { seconds, out: done.stdout })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named_with_its_package() {
        let tool = Tool { program: "no-such-program", package: "some-package" };
        assert!(tool.find().unwrap_err().to_string().contains("package some-package"));
    }

    #[test]
    fn commands_are_shown_as_typed() {
        let line = shown(Path::new("/bin/grep"), &["-c", "it's", "a b", "x.rs"]);
        assert_eq!(line, r"grep -c 'it'\''s' 'a b' x.rs");
    }

    #[test]
    fn a_program_that_fails_is_an_error() {
        let (sh, dir) = (Path::new("/bin/sh"), Path::new("/"));
        assert_eq!(run(sh, &["-c", "echo hello"], dir, &[0]).unwrap().out, b"hello\n");
        assert!(run(sh, &["-c", "exit 1"], dir, &[0, 1]).is_ok());
        let error = run(sh, &["-c", "echo why >&2; exit 2"], dir, &[0]).err().unwrap().to_string();
        assert!(error.contains("why"), "{error}");
    }
}
