//! The command line: GNU grep's options, and our own for the device.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::io::{IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser, ValueEnum};

use super::compile;
use super::locale::Charset;
use super::settings::{Binary, Colors, Output, Settings};
use super::syntax::Dialect;
use super::walk::{Directories, Glob, Selection};
use crate::device::{DeviceArgs, parse_size};

/// Search for PATTERNS in each FILE, with the threads of a GPU.
///
/// The options are those of GNU grep, and so is the output, byte by byte. The files are opened and
/// read by the device's threads themselves, through a page cache in device memory.
#[derive(Debug, Parser)]
#[command(
    name = "grep",
    version,
    disable_help_flag = true,
    disable_version_flag = true,
    override_usage = "grep [OPTION]... PATTERNS [FILE]...",
    args_override_self = true,
    after_help = "\
A FILE of - is standard input. Without FILE, the current directory is searched with -r, standard \
input otherwise. Below a directory, files are searched in the order of their names.\n\n\
Exit status: 0 if a line is selected, 1 if none is, 2 if an error occurred (but 0 with -q and a \
selected line)."
)]
struct Args {
    /// PATTERNS, unless -e or -f gives them, and FILEs
    #[arg(value_name = "PATTERNS/FILE")]
    operands: Vec<OsString>,

    /// PATTERNS are extended regular expressions
    #[arg(short = 'E', long, help_heading = "Patterns", overrides_with_all = ["fixed_strings", "basic_regexp"])]
    extended_regexp: bool,
    /// PATTERNS are strings
    #[arg(short = 'F', long, help_heading = "Patterns", overrides_with_all = ["extended_regexp", "basic_regexp"])]
    fixed_strings: bool,
    /// PATTERNS are basic regular expressions (default)
    #[arg(short = 'G', long, help_heading = "Patterns", overrides_with_all = ["extended_regexp", "fixed_strings"])]
    basic_regexp: bool,
    /// PATTERNS are Perl regular expressions: not supported
    #[arg(short = 'P', long, help_heading = "Patterns")]
    perl_regexp: bool,
    /// Use PATTERNS for matching; may be given several times
    #[arg(short = 'e', long, value_name = "PATTERNS", help_heading = "Patterns")]
    regexp: Vec<OsString>,
    /// Take PATTERNS from FILE, one on each line
    #[arg(short, long, value_name = "FILE", help_heading = "Patterns")]
    file: Vec<PathBuf>,
    /// Ignore case distinctions in patterns and data
    #[arg(
        short,
        long,
        visible_short_alias = 'y',
        help_heading = "Patterns",
        overrides_with = "no_ignore_case"
    )]
    ignore_case: bool,
    /// Do not ignore case distinctions (default)
    #[arg(long, help_heading = "Patterns", overrides_with = "ignore_case")]
    no_ignore_case: bool,
    /// Match only whole words
    #[arg(short, long, help_heading = "Patterns")]
    word_regexp: bool,
    /// Match only whole lines
    #[arg(short = 'x', long, help_heading = "Patterns")]
    line_regexp: bool,

    /// Suppress messages about files that cannot be read
    #[arg(short = 's', long, help_heading = "Miscellaneous")]
    no_messages: bool,
    /// Select lines that do not match
    #[arg(short = 'v', long, help_heading = "Miscellaneous")]
    invert_match: bool,
    /// Print this help
    #[arg(long, action = ArgAction::HelpLong, help_heading = "Miscellaneous")]
    help: Option<bool>,
    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = "Miscellaneous")]
    version: Option<bool>,

    /// Stop reading a file after NUM selected lines
    #[arg(
        short,
        long,
        value_name = "NUM",
        allow_negative_numbers = true,
        help_heading = "Output control"
    )]
    max_count: Option<i64>,
    /// Print the byte offset with output lines
    #[arg(short, long, help_heading = "Output control")]
    byte_offset: bool,
    /// Print the line number with output lines
    #[arg(short = 'n', long, help_heading = "Output control")]
    line_number: bool,
    /// Flush output on every line (has no effect)
    #[arg(long, help_heading = "Output control")]
    line_buffered: bool,
    /// Print the file name with output lines
    #[arg(short = 'H', long, help_heading = "Output control", overrides_with = "no_filename")]
    with_filename: bool,
    /// Suppress the file name prefix on output
    #[arg(short = 'h', long, help_heading = "Output control", overrides_with = "with_filename")]
    no_filename: bool,
    /// Use LABEL as the name of standard input
    #[arg(long, value_name = "LABEL", help_heading = "Output control")]
    label: Option<OsString>,
    /// Show only the nonempty parts of lines that match
    #[arg(short, long, help_heading = "Output control")]
    only_matching: bool,
    /// Suppress all normal output
    #[arg(short, long, visible_alias = "silent", help_heading = "Output control")]
    quiet: bool,
    /// Assume that binary files are of TYPE
    #[arg(long, value_name = "TYPE", help_heading = "Output control")]
    binary_files: Option<BinaryFiles>,
    /// Equivalent to --binary-files=text
    #[arg(short = 'a', long, help_heading = "Output control")]
    text: bool,
    /// Equivalent to --binary-files=without-match
    #[arg(short = 'I', help_heading = "Output control")]
    ignore_binary: bool,
    /// How to handle directories
    #[arg(short, long, value_name = "ACTION", help_heading = "Output control")]
    directories: Option<DirectoriesArg>,
    /// Search the files below directories
    #[arg(short, long, help_heading = "Output control")]
    recursive: bool,
    /// Likewise, and follow symbolic links
    #[arg(short = 'R', long, help_heading = "Output control")]
    dereference_recursive: bool,
    /// Search only files that match GLOB
    #[arg(long, value_name = "GLOB", help_heading = "Output control")]
    include: Vec<OsString>,
    /// Skip files that match GLOB
    #[arg(long, value_name = "GLOB", help_heading = "Output control")]
    exclude: Vec<OsString>,
    /// Skip files that match a glob in FILE
    #[arg(long, value_name = "FILE", help_heading = "Output control")]
    exclude_from: Vec<PathBuf>,
    /// Skip directories that match GLOB
    #[arg(long, value_name = "GLOB", help_heading = "Output control")]
    exclude_dir: Vec<OsString>,
    /// Print only names of files with no selected lines
    #[arg(
        short = 'L',
        long,
        help_heading = "Output control",
        overrides_with = "files_with_matches"
    )]
    files_without_match: bool,
    /// Print only names of files with selected lines
    #[arg(
        short = 'l',
        long,
        help_heading = "Output control",
        overrides_with = "files_without_match"
    )]
    files_with_matches: bool,
    /// Print only a count of selected lines per file
    #[arg(short, long, help_heading = "Output control")]
    count: bool,
    /// Print a NUL byte after file names
    #[arg(short = 'Z', long, help_heading = "Output control")]
    null: bool,
    /// Use markers to highlight the matching strings
    #[arg(long, visible_alias = "colour", value_name = "WHEN", num_args = 0..=1, require_equals = true,
          default_missing_value = "auto", help_heading = "Output control")]
    color: Option<When>,
    /// Do not strip CR characters at the ends of lines (has no effect here)
    #[arg(short = 'U', long, help_heading = "Output control")]
    binary: bool,

    #[command(flatten)]
    device: DeviceArgs,
    /// Bytes of the page cache in device memory
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = parse_size, help_heading = "Device")]
    cache_size: u64,
    /// Bytes of a page: a power of two, 4K to 2M
    #[arg(long, value_name = "SIZE", default_value = "64K", value_parser = parse_size, help_heading = "Device")]
    page_size: u64,
    /// GPU threads of a launch
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65536), help_heading = "Device")]
    grid: u32,
    /// Print what the device did to standard error
    #[arg(long, help_heading = "Device")]
    stats: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BinaryFiles {
    Binary,
    Text,
    WithoutMatch,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DirectoriesArg {
    Read,
    Recurse,
    Skip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum When {
    #[value(alias = "yes", alias = "force")]
    Always,
    #[value(alias = "no", alias = "none")]
    Never,
    #[value(alias = "tty", alias = "if-tty")]
    Auto,
}

/// Settings of the device.
#[derive(Clone, Debug)]
pub struct DeviceSettings {
    /// Which it is.
    pub which: DeviceArgs,
    /// Bytes of the page cache.
    pub cache_size: u64,
    /// Bytes of a page.
    pub page_size: u32,
    /// Threads of a launch.
    pub threads: u32,
    /// Whether to print what the device did.
    pub stats: bool,
}

/// A command line, understood.
#[derive(Debug)]
pub struct Command {
    /// The patterns, of which a line has to match any.
    pub patterns: Vec<Vec<u8>>,
    /// How they are meant.
    pub options: compile::Options,
    /// What to search.
    pub operands: Vec<OsString>,
    /// Which files of it.
    pub selection: Selection,
    /// What to do.
    pub settings: Settings,
    /// On which device.
    pub device: DeviceSettings,
}

impl Command {
    /// Whether no line can be selected whatever is in the files.
    pub fn selects_nothing(&self) -> bool {
        let options = &self.options;
        let all = matches!(&self.patterns[..], [p] if p.is_empty());
        let inverted = all && self.settings.invert && !options.word && !options.line;
        let none = self.patterns.is_empty() && !self.settings.invert;
        inverted || none || self.settings.max_count == 0
    }
}

/// Reads a command line; text is in `charset`.
///
/// # Errors
/// A message without its `grep: `; clap's own are printed, and end the program, as is the help.
pub fn parse(
    arguments: impl Iterator<Item = OsString>,
    charset: Charset,
) -> Result<Command, String> {
    let matches = Args::command().get_matches_from(arguments);
    let args = Args::from_arg_matches(&matches).map_err(|e| e.to_string())?;
    if args.perl_regexp {
        return Err("Perl matching (-P) is not supported".into());
    }
    let (patterns, mut operands) = patterns(&args, &matches)?;
    let directories = directories(&args, &matches);
    let recursive = matches!(directories, Directories::Recurse | Directories::RecurseFollowing);
    let selection = Selection {
        directories,
        globs: globs(&args, &matches)?,
        exclude_dirs: args.exclude_dir.iter().map(c_string).collect::<Result<_, _>>()?,
        no_messages: args.no_messages,
        output: None,
        label: args.label.as_ref().map(|l| l.as_bytes().to_vec()),
    };
    if operands.is_empty() && !recursive {
        operands.push("-".into());
    }
    let several = match &operands[..] {
        [] => true,
        [one] => recursive && std::fs::metadata(one).is_ok_and(|m| m.is_dir()),
        _ => true,
    };
    let output = output(&args);
    let invert = args.invert_match;
    let colors = match args.color {
        Some(When::Always) => true,
        Some(When::Auto) => {
            std::io::stdout().is_terminal() && std::env::var("TERM").is_ok_and(|t| t != "dumb")
        }
        _ => false,
    };
    let colors = colors.then(|| {
        let mut colors = match std::env::var("GREP_COLORS") {
            Ok(variable) => Colors::from_variable(&variable),
            Err(_) => Colors::default(),
        };
        if invert {
            // What is selected has no match to mark.
            colors.matched.clear();
        }
        colors
    });
    let settings = Settings {
        output,
        invert,
        line_number: args.line_number,
        byte_offset: args.byte_offset,
        with_filename: args.with_filename || several && !args.no_filename,
        null: args.null,
        max_count: args.max_count.map_or(u64::MAX, |n| u64::try_from(n).unwrap_or(u64::MAX)),
        binary: binary(&args, &matches),
        colors,
        no_messages: args.no_messages,
        utf8: charset == Charset::Utf8,
    };
    let options = compile::Options {
        dialect: match (args.fixed_strings, args.extended_regexp) {
            (true, _) => None,
            (_, true) => Some(Dialect::Extended),
            _ => Some(Dialect::Basic),
        },
        ignore_case: args.ignore_case,
        word: args.word_regexp,
        line: args.line_regexp,
        spans: settings.wants_spans(),
    };
    let device = DeviceSettings {
        which: args.device,
        cache_size: args.cache_size,
        page_size: u32::try_from(args.page_size).map_err(|_| "page size too large")?,
        threads: args.grid,
        stats: args.stats,
    };
    Ok(Command { patterns, options, operands, selection, settings, device })
}

/// The patterns of `-e` and `-f` in their order, or the first operand; and the other operands.
fn patterns(args: &Args, matches: &ArgMatches) -> Result<(Vec<Vec<u8>>, Vec<OsString>), String> {
    let mut patterns = Vec::new();
    let mut add = |text: &[u8]| patterns.extend(text.split(|&b| b == b'\n').map(<[u8]>::to_vec));
    let mut operands = args.operands.clone();
    if args.regexp.is_empty() && args.file.is_empty() {
        if operands.is_empty() {
            let usage = "Usage: grep [OPTION]... PATTERNS [FILE]...";
            eprintln!("{usage}\nTry 'grep --help' for more information.");
            std::process::exit(2);
        }
        add(operands.remove(0).as_bytes());
    }
    for text in &args.regexp {
        add(text.as_bytes());
    }
    for path in &args.file {
        let mut text = Vec::new();
        let read = match path.as_os_str() == "-" {
            true => std::io::stdin().read_to_end(&mut text).map(drop),
            false => std::fs::read(path).map(|t| text = t),
        };
        if let Err(e) = read {
            let why = e.raw_os_error().map_or(e.to_string(), super::sheet::errno_text);
            return Err(format!("{}: {why}", path.display()));
        }
        // An empty file has no pattern, not an empty one.
        if text.last() == Some(&b'\n') {
            text.pop();
            add(&text);
        } else if !text.is_empty() {
            add(&text);
        }
    }
    let _ = matches;
    Ok((patterns, operands))
}

fn output(args: &Args) -> Output {
    if args.quiet {
        Output::Quiet
    } else if args.files_with_matches {
        Output::FilesWith
    } else if args.files_without_match {
        Output::FilesWithout
    } else if args.count {
        Output::Count
    } else if args.only_matching {
        Output::Matches
    } else {
        Output::Lines
    }
}

/// The last place on the command line where `id` was given.
fn last_index(matches: &ArgMatches, id: &str) -> Option<usize> {
    let given = matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
    matches.indices_of(id).filter(|_| given)?.max()
}

fn directories(args: &Args, matches: &ArgMatches) -> Directories {
    let chosen = [
        ("recursive", Directories::Recurse),
        ("dereference_recursive", Directories::RecurseFollowing),
        (
            "directories",
            match args.directories {
                Some(DirectoriesArg::Recurse) => Directories::Recurse,
                Some(DirectoriesArg::Skip) => Directories::Skip,
                _ => Directories::Read,
            },
        ),
    ];
    let last = chosen.into_iter().filter_map(|(id, d)| Some((last_index(matches, id)?, d)));
    last.max_by_key(|(at, _)| *at).map_or(Directories::Read, |(_, d)| d)
}

fn binary(args: &Args, matches: &ArgMatches) -> Binary {
    let chosen = [
        ("text", Binary::Text),
        ("ignore_binary", Binary::WithoutMatch),
        (
            "binary_files",
            match args.binary_files {
                Some(BinaryFiles::Text) => Binary::Text,
                Some(BinaryFiles::WithoutMatch) => Binary::WithoutMatch,
                _ => Binary::Detect,
            },
        ),
    ];
    let last = chosen.into_iter().filter_map(|(id, b)| Some((last_index(matches, id)?, b)));
    last.max_by_key(|(at, _)| *at).map_or(Binary::Detect, |(_, b)| b)
}

/// `--include`, `--exclude` and `--exclude-from` in the order in which they were given.
fn globs(args: &Args, matches: &ArgMatches) -> Result<Vec<Glob>, String> {
    let mut ordered = BTreeMap::new();
    for (id, values) in [("include", &args.include), ("exclude", &args.exclude)] {
        let indices = matches.indices_of(id).into_iter().flatten();
        for (at, value) in indices.zip(values) {
            let glob = Glob { include: id == "include", pattern: c_string(value)? };
            ordered.insert((at, 0), glob);
        }
    }
    let indices = matches.indices_of("exclude_from").into_iter().flatten();
    for (at, path) in indices.zip(&args.exclude_from) {
        let text = std::fs::read(path).map_err(|e| {
            let why = e.raw_os_error().map_or(e.to_string(), super::sheet::errno_text);
            format!("{}: {why}", path.display())
        })?;
        for (i, line) in text.split(|&b| b == b'\n').filter(|l| !l.is_empty()).enumerate() {
            let pattern = CString::new(line).map_err(|e| e.to_string())?;
            ordered.insert((at, i), Glob { include: false, pattern });
        }
    }
    Ok(ordered.into_values().collect())
}

fn c_string(text: &OsString) -> Result<CString, String> {
    CString::new(text.as_bytes()).map_err(|e| e.to_string())
}
