//! Searching text: the example `grep` beside GNU grep and ripgrep, as whole programs that print the same.

use super::Measure;
use crate::corpus::Corpus;
use crate::row::{Aim, Better, Row};
use crate::scale::Scale;
use crate::stats::{Rounds, Side, in_turns};
use crate::tool::{self, GREP, RG};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// One literal.
pub(crate) const LITERAL: Measure = Measure {
    name: "grep-literal",
    what: "all lines with a literal, in text as a tree of small files and as a few large ones",
    commands: |_| commands(&[Job::LITERAL]),
    run: |scale| measure(scale, &[Job::LITERAL]),
};

/// Regular expressions, with and without a literal in them.
pub(crate) const REGEX: Measure = Measure {
    name: "grep-regex",
    what: "all lines with a match of a regular expression, in text as a tree of small files and as a few large ones",
    commands: |_| commands(&[Job::REGEX, Job::CLASSES]),
    run: |scale| measure(scale, &[Job::REGEX, Job::CLASSES]),
};

/// A dictionary.
pub(crate) const WORDS: Measure = Measure {
    name: "grep-words",
    what: "the count of lines with any of 58,000 words, in a sample of the text",
    commands: |_| commands(&[Job::WORDS]),
    run: |scale| measure(scale, &[Job::WORDS]),
};

/// What is searched for.
#[derive(Clone, Copy)]
struct Job {
    name: &'static str,
    /// Options and pattern, as GNU grep takes them.
    args: &'static [&'static str],
    /// Whether ripgrep does it too. What only GNU grep does takes it long: a sample of the text is enough.
    rg: bool,
    aim: f64,
}

impl Job {
    const LITERAL: Job =
        Job { name: "grep-literal", args: &["ErrorKind::NotFound"], rg: true, aim: 1.0 };
    const REGEX: Job = Job {
        name: "grep-regex",
        args: &["-E", "[A-Z][a-z]+Error::[A-Z][a-z]+"],
        rg: true,
        aim: 1.0,
    };
    const CLASSES: Job = Job {
        name: "grep-regex-classes",
        args: &["-E", "[0-9]{4}-[0-9]{2}-[0-9]{2}"],
        rg: true,
        aim: 1.0,
    };
    const WORDS: Job = Job {
        name: "grep-words",
        args: &["-w", "-F", "-c", "-f", "words.txt"],
        rg: false,
        aim: 10.0,
    };
}

/// The shapes of the text.
const SHAPES: [&str; 2] = ["tree", "large"];

impl Job {
    /// The directory of the text in this shape.
    fn place(&self, shape: &'static str) -> &'static str {
        match (self.rg, shape) {
            (true, shape) => shape,
            (false, "tree") => "sample-tree",
            (false, _) => "sample-large",
        }
    }
}

fn grep_args(job: &Job, shape: &'static str) -> Vec<&'static str> {
    [&["-r"], job.args, &[job.place(shape)]].concat()
}

fn rg_args(job: &Job, shape: &'static str) -> Vec<&'static str> {
    let fair = ["-j2", "--no-ignore", "--hidden", "--no-config", "--no-heading", "-H", "-N"];
    // All regular expressions are extended ones for it.
    let pattern = job.args.iter().copied().filter(|arg| *arg != "-E");
    fair.into_iter().chain(pattern).chain([job.place(shape)]).collect()
}

fn commands(jobs: &[Job]) -> Vec<String> {
    let mut lines = Vec::new();
    for job in jobs {
        for shape in SHAPES {
            let args = grep_args(job, shape);
            lines
                .push(tool::shown(Path::new("target/release/examples/grep"), &args) + "    # ours");
            lines.push(tool::shown(Path::new("grep"), &args));
            if job.rg {
                lines.push(tool::shown(Path::new("rg"), &rg_args(job, shape)));
            }
        }
    }
    lines.iter().map(|line| format!("LC_ALL=C {line}")).collect()
}

/// The example, beside this program.
fn own() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    // Tests lie in a directory below.
    let found = exe.ancestors().skip(1).take(2).map(|dir| dir.join("examples/grep"));
    found.into_iter().find(|file| file.is_file()).ok_or_else(|| {
        "the example grep is not built: cargo build --release -p gpu-examples --example grep".into()
    })
}

/// The lines of an output in order: the programs go through directories in different ones. Files
/// without a line are not counted by all of them.
fn lines(out: &[u8], counts: bool) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = out
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .filter(|line| !counts || !line.ends_with(b":0"))
        .collect();
    lines.sort_unstable();
    lines
}

fn measure(scale: &Scale, jobs: &[Job]) -> Result<Vec<Row>> {
    let own = own()?;
    let (gnu, rg) = (GREP.find()?, RG.find()?);
    let corpus = Corpus::new(scale)?;
    let mut rows = Vec::new();
    for job in jobs {
        for shape in SHAPES {
            rows.extend(beside(scale, &corpus, job, shape, [&own, &gnu, &rg])?);
        }
    }
    Ok(rows)
}

fn beside(
    scale: &Scale,
    corpus: &Corpus,
    job: &Job,
    shape: &'static str,
    [own, gnu, rg]: [&Path; 3],
) -> Result<Vec<Row>> {
    // 1: no line was found, which is right if all say so.
    let run = |program: &Path, args: &[&str]| tool::run(program, args, &corpus.dir, &[0, 1]);
    let counts = job.args.contains(&"-c");
    // GNU grep's output is right by definition.
    let (args, other_args) = (grep_args(job, shape), rg_args(job, shape));
    let reference = run(gnu, &args)?.out;
    let reference = lines(&reference, counts);
    let side = |program: &'_ Path, args: &'_ [&str]| -> Result<f64> {
        let ran = run(program, args)?;
        let lines = lines(&ran.out, counts);
        if lines != reference {
            let line = tool::shown(program, args);
            let (got, want) = (lines.len(), reference.len());
            let odd = lines.iter().find(|line| reference.binary_search(line).is_err());
            let odd = odd.map_or("nothing new".into(), |line| String::from_utf8_lossy(line));
            return Err(format!("{line} printed {got} lines, not {want}: {odd}").into());
        }
        Ok(ran.seconds)
    };
    let ours: Side<'_> = Box::new(|| side(own, &args));
    let gnus: Side<'_> = Box::new(|| side(gnu, &args));
    let (own_times, gnu_times, rg_times) = if job.rg {
        let rgs: Side<'_> = Box::new(|| side(rg, &other_args));
        let [own, gnu, rg] = in_turns(scale.rounds, [ours, gnus, rgs])?;
        (own, gnu, Some(rg))
    } else {
        let [own, gnu] = in_turns(scale.rounds.min(5), [ours, gnus])?;
        (own, gnu, None)
    };
    let Corpus { files, bytes, words, sample, .. } = corpus;
    let what = match (job.rg, shape) {
        (true, "tree") => format!("{} MB in {files} files", bytes / 1_000_000),
        (true, _) => format!("{} MB in 4 files", bytes / 1_000_000),
        (false, "tree") => {
            format!(
                "{words} words, {} MB in {} files",
                sample / 1_000_000,
                files.div_ceil(scale.sample)
            )
        }
        (false, _) => format!("{words} words, {} MB in one file", sample / 1_000_000),
    };
    let note = format!("`{}`, {what}", tool::shown(Path::new("grep"), &args));
    let name = format!("{}-{shape}", job.name);
    let row = |name: String, peer: String, times: Rounds| {
        Row::new(name, "s", Better::Less, own_times.clone()).peer(peer, times).note(&note)
    };
    let beside_gnu = |name| Ok::<_, Error>(row(name, GREP.version()?, gnu_times.clone()));
    Ok(match rg_times {
        Some(times) => vec![
            row(name.clone(), RG.version()? + " -j2", times).aim(Aim::Ratio(job.aim)),
            beside_gnu(format!("{name}/gnu"))?,
        ],
        None => vec![beside_gnu(name)?.aim(Aim::Ratio(job.aim))],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_compared_whatever_the_order() {
        assert_eq!(lines(b"b:1\na:0\n", false), [&b"a:0"[..], b"b:1"]);
        assert_eq!(lines(b"b:1\na:0\n", true), [&b"b:1"[..]]);
    }

    #[test]
    fn commands_do_the_same() {
        let lines = commands(&[Job::REGEX, Job::WORDS]);
        assert!(lines.contains(&"LC_ALL=C grep -r -E '[A-Z][a-z]+Error::[A-Z][a-z]+' tree".into()));
        assert!(lines.contains(&"LC_ALL=C grep -r -w -F -c -f words.txt sample-large".into()));
        assert!(lines.iter().any(|l| l.contains("rg -j2") && !l.contains("-E")));
    }
}
