//! Text to search, and a dictionary of its words.
//!
//! The text is what every Rust programmer has: the sources of the crates that cargo has unpacked, and the
//! documentation that came with the compiler, in the order of their paths. It lies there twice: as the
//! tree of many small files that it is, and one after the other in a few large files. For searches that take
//! their time there is a sample, also twice.

use crate::Result;
use crate::scale::Scale;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is text.
const EXTENSIONS: [&str; 8] = ["c", "css", "h", "html", "js", "md", "rs", "txt"];
/// Large files that the text is laid into.
const PARTS: u64 = 4;

/// The text, as `tree/` and `large/` in one directory, with `sample-tree/`, `sample-large/` and
/// `words.txt` beside them.
pub(crate) struct Corpus {
    /// The directory that programs are run in.
    pub(crate) dir: PathBuf,
    /// Bytes of text.
    pub(crate) bytes: u64,
    /// Files of the tree.
    pub(crate) files: u64,
    /// Bytes of the sample.
    pub(crate) sample: u64,
    /// Words in the dictionary.
    pub(crate) words: u64,
}

impl Corpus {
    /// The text of this scale, made if it is not there.
    pub(crate) fn new(scale: &Scale) -> Result<Corpus> {
        let dir = scale.dir.join("corpus");
        // Written last, so that what it describes is whole.
        let note = dir.join("made.txt");
        let made = format!(
            "{} bytes, one of {} sampled, {} words",
            scale.corpus, scale.sample, scale.words
        );
        if let Some(corpus) =
            fs::read_to_string(&note).ok().and_then(|s| read_note(&dir, &s, &made))
        {
            return Ok(corpus);
        }
        eprintln!("  gathering {} MB of text in {}", scale.corpus / 1_000_000, dir.display());
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        let corpus = gather(&sources()?, &dir, scale)?;
        let Corpus { bytes, files, sample, words, .. } = corpus;
        fs::write(note, format!("{made}\n{bytes} {files} {sample} {words}\n"))?;
        Command::new("sync").status()?;
        Ok(corpus)
    }
}

fn read_note(dir: &Path, note: &str, made: &str) -> Option<Corpus> {
    let (first, rest) = note.split_once('\n')?;
    let mut numbers = rest.split_whitespace().map(|n| n.parse::<u64>().ok());
    let mut next = || numbers.next().flatten();
    let (bytes, files, sample, words) = (next()?, next()?, next()?, next()?);
    (first == made).then(|| Corpus { dir: dir.to_owned(), bytes, files, sample, words })
}

/// Where text comes from, with the names that it gets in the tree.
fn sources() -> Result<Vec<(&'static str, PathBuf)>> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output()?.stdout;
    let sysroot = PathBuf::from(String::from_utf8(sysroot)?.trim_end());
    Ok(vec![("crates", cargo.join("registry/src")), ("doc", sysroot.join("share/doc"))])
}

/// Paths of the text files below `dir`, in order.
fn text_files(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries = fs::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (kind, path) = (entry.file_type()?, entry.path());
        if kind.is_dir() {
            text_files(&path, found)?;
        } else if kind.is_file()
            && path.extension().is_some_and(|e| EXTENSIONS.iter().any(|text| e == *text))
        {
            found.push(path);
        }
    }
    Ok(())
}

fn gather(sources: &[(&str, PathBuf)], dir: &Path, scale: &Scale) -> Result<Corpus> {
    let large = dir.join("large");
    fs::create_dir_all(&large)?;
    fs::create_dir_all(dir.join("sample-large"))?;
    let mut sample = BufWriter::new(File::create(dir.join("sample-large/0.txt"))?);
    let mut corpus = Corpus { dir: dir.to_owned(), bytes: 0, files: 0, sample: 0, words: 0 };
    let mut counts = HashMap::new();
    let (mut part, mut parts) = (None::<BufWriter<File>>, 0);
    for (name, source) in sources {
        let mut paths = Vec::new();
        if source.is_dir() {
            text_files(source, &mut paths)?;
        }
        for path in paths {
            if corpus.bytes >= scale.corpus {
                break;
            }
            // No program is to take a file for a binary one.
            let Ok(mut text) = fs::read_to_string(&path) else { continue };
            if text.is_empty() || text.contains('\0') {
                continue;
            }
            if !text.ends_with('\n') {
                text.push('\n');
            }
            let place = Path::new(name).join(path.strip_prefix(source)?);
            put(&dir.join("tree").join(&place), &text)?;
            if corpus.files.is_multiple_of(scale.sample) {
                put(&dir.join("sample-tree").join(&place), &text)?;
                sample.write_all(text.as_bytes())?;
                corpus.sample += text.len() as u64;
            }
            if part.is_none() || corpus.bytes >= parts * scale.corpus.div_ceil(PARTS) {
                if let Some(mut part) = part.take() {
                    part.flush()?;
                }
                part = Some(BufWriter::new(File::create(large.join(format!("{parts}.txt")))?));
                parts += 1;
            }
            part.as_mut().ok_or("no part")?.write_all(text.as_bytes())?;
            count_words(&text, &mut counts);
            corpus.bytes += text.len() as u64;
            corpus.files += 1;
        }
    }
    if let Some(mut part) = part {
        part.flush()?;
    }
    sample.flush()?;
    if corpus.bytes < scale.corpus {
        return Err(format!(
            "only {} of {} bytes of text found in {sources:?}; rustup's component rust-docs brings more",
            corpus.bytes, scale.corpus
        )
        .into());
    }
    let words = frequent(counts, scale.words);
    corpus.words = words.len() as u64;
    fs::write(dir.join("words.txt"), words.iter().map(|w| format!("{w}\n")).collect::<String>())?;
    Ok(corpus)
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(path.parent().ok_or("a file without a directory")?)?;
    Ok(fs::write(path, text)?)
}

/// Counts the words that grep -w would take for such: three or more letters, and no digits or
/// underscores beside them.
fn count_words(text: &str, counts: &mut HashMap<String, u64>) {
    let all = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    for word in all.filter(|w| w.len() >= 3 && w.bytes().all(|b| b.is_ascii_alphabetic())) {
        match counts.get_mut(word) {
            Some(count) => *count += 1,
            None => drop(counts.insert(word.to_owned(), 1)),
        }
    }
}

/// The most frequent words, those of the same frequency by the alphabet.
fn frequent(counts: HashMap<String, u64>, most: usize) -> Vec<String> {
    let mut words: Vec<_> = counts.into_iter().collect();
    words.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    words.into_iter().take(most).map(|(word, _)| word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_and_the_large_files_hold_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        fs::create_dir_all(source.join("b")).unwrap();
        fs::write(source.join("b/1.rs"), "one two_three two\n").unwrap();
        fs::write(source.join("a.txt"), "two four4 five\ntwo five").unwrap();
        fs::write(source.join("c.bin"), "not looked at").unwrap();
        fs::write(source.join("d.md"), "not\0text").unwrap();
        let mut scale = Scale::tiny(dir.path());
        (scale.corpus, scale.words) = (30, 2);
        let to = dir.path().join("corpus");
        let corpus = gather(&[("s", source)], &to, &scale).unwrap();
        assert_eq!((corpus.files, corpus.words, corpus.bytes), (2, 2, 42));
        assert_eq!(fs::read_to_string(to.join("words.txt")).unwrap(), "two\nfive\n");
        let large: String = (0..corpus.bytes.div_ceil(8).min(2))
            .map(|part| fs::read_to_string(to.join(format!("large/{part}.txt"))).unwrap())
            .collect();
        assert_eq!(large, "two four4 five\ntwo five\none two_three two\n");
        assert!(to.join("tree/s/b/1.rs").is_file());
        let sample = fs::read_to_string(to.join("sample-large/0.txt")).unwrap();
        assert_eq!(sample.len() as u64, corpus.sample);
        assert_eq!(fs::read_to_string(to.join("sample-tree/s/a.txt")).unwrap(), sample);
        scale.corpus = 1000;
        let source = dir.path().join("source");
        assert!(gather(&[("s", source)], &to, &scale).is_err());
    }

    #[test]
    fn notes_are_read_only_for_the_same_corpus() {
        let read = |note, made| read_note(Path::new("/x"), note, made).map(|c| (c.bytes, c.words));
        assert_eq!(read("as made\n12 3 1 4\n", "as made"), Some((12, 4)));
        assert_eq!(read("as made\n12 3 1 4\n", "otherwise"), None);
        assert_eq!(read("as made\n12\n", "as made"), None);
    }
}
