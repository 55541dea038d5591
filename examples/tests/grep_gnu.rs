//! Whole runs on the emulated GPU, byte by byte the same as those of the GNU grep that is installed.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Once;

use gpu_examples::grep::app::grep;
use gpu_examples::grep::locale::Locale;

/// What a run has come to: status, standard output, standard error.
type Outcome = (i32, Vec<u8>, Vec<u8>);

fn ours(arguments: &[&str], locale: &str) -> Outcome {
    let all = ["grep"].iter().chain(arguments).map(OsString::from);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = grep(all, &Locale::named(locale), &mut out, &mut err);
    (status.into(), out, err)
}

fn gnu(arguments: &[&str], locale: &str) -> Outcome {
    let output = Command::new("grep")
        .args(arguments)
        .env("LC_ALL", locale)
        .env_remove("GREP_COLORS")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (output.status.code().unwrap(), output.stdout, output.stderr)
}

/// Prints a line that the test's harness does not keep to itself, the first time.
fn say_once(line: &str) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        let _ = writeln!(std::io::stderr(), "{line}");
    });
}

/// Whether what is installed is what this program follows; says so if not.
fn gnu_is_installed() -> bool {
    let version = Command::new("grep").arg("--version").output();
    let version = version.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    let found = version.is_ok_and(|v| v.starts_with("grep (GNU grep) 3."));
    if !found {
        say_once("skipped: no GNU grep 3 is installed");
    }
    found
}

fn assert_same(arguments: &[&str], locale: &str) {
    let (expected, found) = (gnu(arguments, locale), ours(arguments, locale));
    let show = |o: &Outcome| {
        let text = |b: &[u8]| String::from_utf8_lossy(&b[..b.len().min(2000)]).into_owned();
        format!("status {}\n{}\n--- errors\n{}", o.0, text(&o.1), text(&o.2))
    };
    assert!(
        expected == found,
        "{locale}: grep {arguments:?}\nGNU: {}\nours: {}",
        show(&expected),
        show(&found)
    );
}

/// Files with what is hard to get right; their paths.
fn files(dir: &Path) -> Vec<String> {
    let mut late = b"foo line\n".repeat(20_000);
    late.extend_from_slice(b"bar\0foo\n");
    late.extend_from_slice(&b"foo again\n".repeat(100));
    let mut late_only = b"line\n".repeat(20_000);
    late_only.extend_from_slice(b"bar\0foo\nfoo again\n");
    let mut many_items = b"some text without it\n".repeat(150_000);
    many_items.extend_from_slice(b"foo at the end\n");
    let mut cut = b"foo ".repeat(30_000);
    cut.extend_from_slice(b"\nfoo line\nbar\0foo\nfoo again\n");
    let mut long = b"x".repeat(300_000);
    long.extend_from_slice(b"foo");
    long.extend_from_slice(&b"y".repeat(100_000));
    long.extend_from_slice(b"\nfoo\n");
    let all: [(&str, &[u8]); 16] = [
        ("a_nul", b"foo\nbar\0foo\nfoo x\n"),
        ("b_bad_bytes", b"foo\nfoo\xffx\nfoo y\n"),
        ("c_bad_bytes", b"foo\xff\nfoo\xc3\xa9\n\xff\xfefoo\n"),
        (
            "d_operators",
            "{1}foo\nab\naab\n*foo\na*b\n^a\na$b\nx]\n+a\nfoo|bar\n(a\na)\n\\\n".as_bytes(),
        ),
        ("e_words", b"foo-bar foobar\nfoo_bar\n foo\nbar foo\nFOO Foo\n\nlast foo no newline"),
        ("f_empty", b""),
        ("g_newlines", b"\n\n"),
        ("h_returns", b"foo\r\nbar\r\n"),
        (
            "i_letters",
            "É\né\nß\nΣ\nσ\nς\nı\ni\nI\nſ\nna\u{ef}ve foo é foo\nfooé foo\néfoo\n日本語 foo\n"
                .as_bytes(),
        ),
        ("j_nul", b"a\0b\n"),
        ("k_many_items", &many_items),
        ("l_nul_after_text", &late),
        ("m_nul_after_text", &late_only),
        ("n_nul_first", b"\0\nfoo\n"),
        // Last: GNU grep's buffer grows with the line and stays so for further files.
        ("o_nul_after_long_line", &cut),
        ("p_long_line", &long),
    ];
    let path = |name: &str| dir.join(name).into_os_string().into_string().unwrap();
    for (name, bytes) in all {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    all.iter().map(|(name, _)| path(name)).collect()
}

const LOCALES: [&str; 2] = ["C", "C.UTF-8"];

#[test]
fn every_option_with_every_file() {
    if !gnu_is_installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let options: [&[&str]; 34] = [
        &[],
        &["-n"],
        &["-c"],
        &["-v"],
        &["-vc"],
        &["-o"],
        &["-ob"],
        &["-i"],
        &["-io"],
        &["-w"],
        &["-wo"],
        &["-x"],
        &["-xv"],
        &["-F"],
        &["-Fwi"],
        &["-l"],
        &["-L"],
        &["-q"],
        &["-m1"],
        &["-m2", "-n"],
        &["-a"],
        &["-aob"],
        &["-aw"],
        &["-I"],
        &["-Ic"],
        &["-Il"],
        &["-E"],
        &["-h"],
        &["-Hnb"],
        &["--color=always", "-n"],
        &["--color=always", "-ob"],
        &["--color=always", "-v"],
        &["-Zl"],
        &["-s", "-Zc"],
    ];
    for locale in LOCALES {
        for pattern in ["foo", "^foo", "nowhere"] {
            for option in options {
                let mut arguments = option.to_vec();
                arguments.extend(["-e", pattern]);
                arguments.extend(files.iter().map(String::as_str));
                assert_same(&arguments, locale);
            }
        }
    }
}

#[test]
fn every_pattern_in_both_dialects() {
    if !gnu_is_installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let patterns = [
        "foo$",
        "fo*",
        "o\\+",
        "[[:alpha:]]*",
        "\\w\\+",
        "\\<foo",
        "foo\\>",
        "\\bfoo\\b",
        "\\Bfoo",
        ".",
        "^.$",
        "",
        "x*",
        "^$",
        "é",
        "[é]",
        "[^a]",
        "a.b",
        "a[^x]b",
        "foo\\|bar",
        "\\(foo\\)x\\?",
        "bar.foo",
        "[[:upper:]]",
        "\\W",
        "\\s",
        "\\S\\+",
        "s",
        "i",
        "σ",
        "o.*f",
        "[a-z]\\{3\\}",
        "a\\{1",
        "a\\{x\\}",
        "\\(^a\\)",
        "[z-a]",
        "[a",
        "[[:foo:]]",
        "[:space:]",
        "\\(",
        "\\)",
        "\\",
        "[]]",
        "[^]]]",
        "[a-]",
        "[[.a.]]",
        "[[=a=]]",
        "\\`a",
        "foo\nbar",
        "a**",
        "a\\{,2\\}b",
        "a{,2}b",
        "(foo|bar)+",
        "x\\1",
        "a^b",
        "a$b",
        "+a",
        "\\d.",
    ];
    // Operators with nothing before them. With -E, GNU grep's two engines disagree on them; these
    // options use but the one.
    let stray = ["*foo", "{1}foo", "a|*foo", "+a", "^*", "a\\|*foo", "\\{1\\}foo", "(*foo)"];
    // Without the big files: what they test does not depend on the pattern.
    let small: Vec<&str> = files
        .iter()
        .map(String::as_str)
        .filter(|f| std::fs::metadata(f).unwrap().len() < 1000)
        .collect();
    for locale in LOCALES {
        for pattern in stray {
            for option in [&["-n"][..], &["-E", "-c"]] {
                let arguments = [option, &["-e", pattern], &small].concat();
                assert_same(&arguments, locale);
            }
        }
        for pattern in patterns {
            let options: [&[&str]; 5] = [&["-n"], &["-E", "-n"], &["-io"], &["-Ew"], &["-xc"]];
            for option in options {
                let mut arguments = option.to_vec();
                arguments.extend(["-e", pattern]);
                arguments.extend(&small);
                assert_same(&arguments, locale);
            }
        }
    }
}

#[test]
fn patterns_from_files_and_several_at_once() {
    if !gnu_is_installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let list = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let words: String = (0..2000).map(|i| format!("word{i}\n")).collect();
    let words = list("words", &format!("{words}foo\nbar\nfoo-bar\nnaïve\nlast foo\n"));
    let (none, empty) = (list("none", ""), list("empty", "\n"));
    for locale in LOCALES {
        for option in ["-Fw", "-Fwo", "-Fwi", "-F", "-Fx", "-Fo", "-Fc", "-w", "-n", "-vFw"] {
            for file in [&words, &none, &empty] {
                let mut arguments = vec![option, "-f", file];
                arguments.extend(files.iter().map(String::as_str));
                assert_same(&arguments, locale);
            }
        }
        for arguments in [&["-e", "foo", "-e", "bar"][..], &["-oe", "bar", "-e", "é"]] {
            let mut arguments = arguments.to_vec();
            arguments.extend(files.iter().map(String::as_str));
            assert_same(&arguments, locale);
        }
    }
}

#[test]
fn directories_and_what_cannot_be_read() {
    if !gnu_is_installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    files(dir.path());
    let root = dir.path().to_str().unwrap();
    let file = format!("{root}/e_words");
    let absent = format!("{root}/absent");
    let one = dir.path().join("one");
    std::fs::create_dir_all(one.join("two")).unwrap();
    std::fs::write(one.join("two/three.txt"), "foo\n").unwrap();
    let deep = one.to_str().unwrap();
    let slash = format!("{deep}/");
    for arguments in [
        &["foo", root][..],
        &["foo", root, &absent, &file],
        &["-s", "foo", root, &absent, &file],
        &["-q", "foo", &absent, &file],
        &["-q", "foo", &file, &absent],
        &["-d", "skip", "foo", root, &file],
        &["-r", "foo", deep],
        &["-r", "foo", &slash],
        &["-rh", "foo", deep],
        &["-r", "foo", &file],
        &["-rc", "foo", &file],
        &["-r", "--include=*.txt", "foo", deep],
        &["-r", "--exclude=*.txt", "foo", deep],
        &["-r", "--exclude-dir=two", "foo", deep],
        &["--exclude=e_*", "foo", &file, &absent],
        &["--include=e_*", "foo", &file],
        &["-L", "foo", &file],
        &["-m0", "foo", &file],
        &["-vc", "", &file],
        &["-F", "foo", "/dev/null", &file],
    ] {
        assert_same(arguments, "C.UTF-8");
    }
}

/// A real tree, larger than the page cache.
#[test]
fn a_tree_of_sources() {
    if !gnu_is_installed() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for crate_dir in ["gpu-rt", "gpufs", "gpu-emu", "gpu-kernels", "host-daemon"] {
        collect(&root.join(crate_dir).join("src"), &mut files);
    }
    files.sort();
    assert!(files.len() > 50, "{} files", files.len());
    let cache = ["--cache-size", "1M", "--page-size", "4K", "--grid", "100"];
    for options in [
        &["unsafe fn"][..],
        &["-n", "unsafe"],
        &["-c", "SAFETY"],
        &["-io", "todo\\|fixme\\|errno"],
        &["-wn", "the"],
        &["-E", "fn [a-z_]+\\(&(mut )?self\\)"],
        &["-v", "a"],
        &["-l", "asm!"],
        &["-L", "unsafe"],
        &["-cv", "^ *//"],
        &["-nb", "[0-9]\\{3,\\}"],
        &["-ohE", "\\b[A-Z]{4,}\\b"],
    ] {
        let theirs = [options, &files.iter().map(String::as_str).collect::<Vec<_>>()].concat();
        let mut with_cache = cache.to_vec();
        with_cache.extend(&theirs);
        assert!(gnu(&theirs, "C.UTF-8") == ours(&with_cache, "C.UTF-8"), "grep {options:?}");
    }
}

fn collect(dir: &Path, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => collect(&path, files),
            false => files.push(path.into_os_string().into_string().unwrap()),
        }
    }
}
