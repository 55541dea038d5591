//! As much of the PTX language as checks need: functions, and the names of instructions.

/// A function that a module defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether a launch can start it.
    pub is_entry: bool,
    /// Its instructions.
    pub body: Vec<Instruction<'a>>,
}

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction<'a> {
    /// Its name with all modifiers, such as `ld.acquire.sys.b32`.
    pub name: &'a str,
    /// What follows, up to the semicolon.
    pub operands: &'a str,
}

/// The functions that the module defines, in order.
#[must_use]
pub fn functions(ptx: &str) -> Vec<Function<'_>> {
    let mut functions: Vec<Function<'_>> = Vec::new();
    let mut header: Option<(&str, bool)> = None;
    let mut inside = false;
    for line in ptx.lines() {
        if let Some(found) = function_header(line) {
            header = Some(found);
            inside = false;
        } else if line.starts_with(';') {
            // A declaration.
            header = None;
        } else if line.starts_with('{') {
            if let Some((name, is_entry)) = header.take() {
                functions.push(Function { name, is_entry, body: Vec::new() });
                inside = true;
            }
        } else if line.starts_with('}') {
            inside = false;
        } else if inside && let Some(function) = functions.last_mut() {
            function.body.extend(instructions(line));
        }
    }
    functions
}

/// The name in the first line of a function, and whether it is an entry.
pub(crate) fn function_header(line: &str) -> Option<(&str, bool)> {
    let (words, is_entry) = match (line.split_once(".entry "), line.split_once(".func ")) {
        (Some((before, after)), _) if is_linkage(before) => (after, true),
        (_, Some((before, after))) if is_linkage(before) => (after, false),
        _ => return None,
    };
    // A result in parentheses may come first.
    let rest = words.trim_start();
    let rest = match rest.strip_prefix('(') {
        Some(result) => result.split_once(')')?.1.trim_start(),
        None => rest,
    };
    let name = rest.split(|c: char| !(c.is_ascii_alphanumeric() || "_$.".contains(c))).next()?;
    (!name.is_empty()).then_some((name, is_entry))
}

fn is_linkage(text: &str) -> bool {
    text.split_whitespace().all(|word| matches!(word, ".visible" | ".weak" | ".extern"))
}

/// The instructions in a line: none, one, or several from an `asm!` block.
fn instructions(line: &str) -> impl Iterator<Item = Instruction<'_>> {
    let code = line.split_once("//").map_or(line, |(code, _)| code);
    code.split(';').filter_map(|statement| {
        let mut statement = statement.trim_matches(|c: char| c.is_whitespace() || "{}".contains(c));
        // A predicate.
        if statement.starts_with('@') {
            statement = statement.split_once(char::is_whitespace)?.1.trim_start();
        }
        let (name, operands) = statement.split_once(char::is_whitespace).unwrap_or((statement, ""));
        name.starts_with(|c: char| c.is_ascii_lowercase())
            .then(|| Instruction { name, operands: operands.trim() })
    })
}

/// The functions that the module calls or names but does not define.
#[must_use]
pub fn undefined(ptx: &str) -> Vec<&str> {
    let mut names: Vec<_> = ptx
        .lines()
        .filter(|line| line.starts_with(".extern"))
        .filter_map(|line| match function_header(line) {
            Some((name, _)) => Some(name),
            // Dynamic shared memory is the launch's to provide.
            None if line.contains(".shared") => None,
            // A variable: its name comes last, before a length in brackets.
            None => line.split(['[', ';']).next()?.split_whitespace().last(),
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The same module, with each entry bounded to blocks of at most `threads` threads, or of as many as
/// `#[kernel(max_threads = N)]` says if they are fewer.
///
/// An entry is also told to make do with one block on a multiprocessor: otherwise `ptxas` leaves registers
/// unused for the sake of a second one, and spills.
#[must_use]
pub fn limit_threads(ptx: &str, threads: u32) -> String {
    let bounds: Vec<_> = ptx.lines().filter_map(bound).collect();
    let mut out = String::with_capacity(ptx.len() + 4096);
    let mut entry = None;
    for line in ptx.lines().filter(|line| bound(line).is_none()) {
        if let Some((name, is_entry)) = function_header(line) {
            entry = is_entry.then_some(name);
        } else if line.starts_with('{')
            && let Some(name) = entry.take()
        {
            let own = bounds.iter().find(|(kernel, _)| *kernel == name).map(|(_, most)| *most);
            let most = own.unwrap_or(threads).min(threads);
            out.push_str(&format!(".maxntid {most}, 1, 1\n.minnctapersm 1\n"));
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// The kernel and the most threads of its blocks, if this line defines the variable whose name says so.
fn bound(line: &str) -> Option<(&str, u32)> {
    let (linkage, definition) = line.split_once(".global")?;
    if !is_linkage(linkage) {
        return None;
    }
    let name = definition.split(['[', '=', ';']).next()?.split_whitespace().last()?;
    let (kernel, threads) = name.split_once("$max_threads$")?;
    Some((kernel, threads.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "\
.version 7.0
.target sm_70
.extern .shared .align 16 .b8 gpu_rt_dynamic[];
.extern .global .align 4 .b8 elsewhere[4];
.extern .func  (.param .b32 func_retval0) memcmp
(
\t.param .b64 memcmp_param_0
)
;
.func  (.param .b64 func_retval0) helper(
\t.param .b64 helper_param_0
)
{
\t.reg .b64 \t%rd<4>;
\tld.param.b64 \t%rd1, [helper_param_0];
$L__BB0_1:
\t@%p1 bra \t$L__BB0_1;
\tret;
}
\t// .globl main_kernel
.visible .entry main_kernel(
\t.param .align 8 .b8 main_kernel_param_0[96]
)
{
\t// begin inline asm
\tld.acquire.sys.b32 %r1, [%rd1];
\t// end inline asm
\t{ // callseq 0, 0
\tcall.uni (retval0), helper, (param0);
\t} // callseq 0
\ttrap; exit;
}
";

    #[test]
    fn functions_and_their_instructions_are_found() {
        let functions = functions(MODULE);
        let names: Vec<_> = functions.iter().map(|f| (f.name, f.is_entry)).collect();
        assert_eq!(names, [("helper", false), ("main_kernel", true)]);
        let of = |i: usize| functions[i].body.iter().map(|x| x.name).collect::<Vec<_>>();
        assert_eq!(of(0), ["ld.param.b64", "bra", "ret"]);
        assert_eq!(of(1), ["ld.acquire.sys.b32", "call.uni", "trap", "exit"]);
        assert_eq!(functions[1].body[0].operands, "%r1, [%rd1]");
    }

    #[test]
    fn what_is_undefined_is_named() {
        assert_eq!(undefined(MODULE), ["elsewhere", "memcmp"]);
    }

    #[test]
    fn entries_alone_are_bounded() {
        let limited = limit_threads(MODULE, 256);
        let bound = ".maxntid 256, 1, 1\n.minnctapersm 1\n";
        assert_eq!(limited.matches(&format!("{bound}{{")).count(), 1);
        assert_eq!(limited.replace(bound, ""), MODULE);
    }

    #[test]
    fn an_entry_may_say_its_own_bound() {
        let with = |threads: u32| {
            let says =
                format!(".visible .global .align 1 .b8 main_kernel$max_threads${threads}[1];\n");
            limit_threads(&format!("{says}{MODULE}"), 512)
        };
        assert_eq!(with(128), limit_threads(MODULE, 128), "and is taken out");
        assert_eq!(with(1024), limit_threads(MODULE, 512), "but no more than the module has");
        let other = ".global .align 1 .b8 other$max_threads$32[1];\n";
        assert_eq!(limit_threads(&format!("{other}{MODULE}"), 512), limit_threads(MODULE, 512));
    }
}
