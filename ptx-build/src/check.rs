//! What must hold of the PTX of any kernel crate, and of what its kernels need.

use std::fmt::Write as _;

use crate::Error;
use crate::ptx::{self, Function};
use crate::ptxas::{POINTER_STACK, Usage};

/// Functions of `gpu-rt` in whose loops the compiler might recognise the function itself.
const BUILTINS: [&str; 5] = ["memcpy", "memmove", "memset", "memcmp", "bcmp"];

/// Checks the PTX as text:
///
/// - no symbol is undefined;
/// - each atomic operation says its order and its scope. One that does not comes from
///   `core::sync::atomic` in device code, and is weaker or dearer than it looks;
/// - no read-modify-write has system scope: none may cross the bus;
/// - no memory function of `gpu-rt` calls itself.
///
/// # Errors
/// [`Error::Findings`].
pub fn module(ptx: &str) -> Result<(), Error> {
    let mut findings: Vec<String> =
        ptx::undefined(ptx).into_iter().map(|name| format!("undefined symbol {name}")).collect();
    for function in ptx::functions(ptx) {
        for instruction in &function.body {
            if let Some(what) = misuse(instruction.name) {
                findings.push(format!("{}: {}: {what}", function.name, instruction.name));
            }
            let names_itself = instruction.operands.split([',', ' ']).any(|w| w == function.name);
            if BUILTINS.contains(&function.name)
                && instruction.name.starts_with("call")
                && names_itself
            {
                findings.push(format!("{} calls itself", function.name));
            }
        }
    }
    if findings.is_empty() { Ok(()) } else { Err(Error::Findings(findings)) }
}

/// What is wrong with an instruction of this name, if anything.
fn misuse(name: &str) -> Option<&'static str> {
    let mut parts = name.split('.');
    let operation = parts.next()?;
    let modifiers: Vec<_> = parts.collect();
    let has = |any: &[&str]| modifiers.iter().any(|m| any.contains(m));
    match operation {
        "atom" | "red" if !has(&["relaxed", "acquire", "release", "acq_rel"]) => {
            Some("no order; use gpu_rt::atomic in device code, not core::sync::atomic")
        }
        "atom" | "red" if !has(&["cta", "gpu", "sys"]) => Some("no scope"),
        "atom" | "red" if has(&["sys"]) => Some("a read-modify-write that may cross the bus"),
        "ld" | "st" if has(&["volatile"]) => {
            Some("volatile is no synchronisation; use gpu_rt::atomic")
        }
        "membar" => Some("a fence without order; use gpu_rt::atomic::fence_device or fence_system"),
        _ => None,
    }
}

/// The instructions of each entry that synchronise, a line per kernel: what a golden file holds.
#[must_use]
pub fn synchronisation(ptx: &str) -> String {
    let mut functions = ptx::functions(ptx);
    functions.retain(|f| f.is_entry);
    functions.sort_by_key(|f| f.name);
    let mut text = String::new();
    for Function { name, body, .. } in functions {
        let names: Vec<_> = body.iter().map(|i| i.name).filter(|n| synchronises(n)).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}: {}", names.join(" "));
    }
    text
}

fn synchronises(name: &str) -> bool {
    let mut parts = name.split('.');
    match parts.next().unwrap_or_default() {
        "ld" | "st" => parts.any(|m| ["relaxed", "acquire", "release", "volatile"].contains(&m)),
        "atom" | "red" | "fence" | "membar" | "bar" | "barrier" | "shfl" | "vote" | "match"
        | "activemask" | "nanosleep" | "trap" => true,
        _ => false,
    }
}

/// What differs between two texts of [`synchronisation`].
///
/// # Errors
/// [`Error::Findings`], with the lines expected and found.
pub fn same_synchronisation(expected: &str, found: &str) -> Result<(), Error> {
    let lines = |text: &str| -> Vec<String> {
        text.lines().filter(|l| !l.starts_with('#')).map(|l| l.trim_end().to_owned()).collect()
    };
    let (expected, found) = (lines(expected), lines(found));
    let missing = expected.iter().filter(|l| !found.contains(l)).map(|l| format!("- {l}"));
    let extra = found.iter().filter(|l| !expected.contains(l)).map(|l| format!("+ {l}"));
    let mut findings: Vec<_> = missing.chain(extra).collect();
    // Those of one kernel side by side.
    findings.sort_by(|a, b| (&a[2..], &a[..1]).cmp(&(&b[2..], &b[..1])));
    if findings.is_empty() { Ok(()) } else { Err(Error::Findings(findings)) }
}

/// Upper bounds of what kernels need, a line each: kernel, architecture, registers, bytes of stack,
/// bytes of spills, those of what it calls included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds(Vec<(u32, Usage)>);

impl Bounds {
    /// Reads bounds; lines that begin with `#` are comments.
    ///
    /// # Errors
    /// [`Error::Findings`], with the lines that are not bounds.
    pub fn parse(text: &str) -> Result<Bounds, Error> {
        let mut bounds = Bounds::default();
        let mut findings = Vec::new();
        for line in text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()) {
            match parse_bound(line) {
                Some(bound) => bounds.0.push(bound),
                None => findings.push(format!("not `kernel sm_N registers stack spills`: {line}")),
            }
        }
        if findings.is_empty() { Ok(bounds) } else { Err(Error::Findings(findings)) }
    }

    /// Records what was measured as the bound, in place of what was known of these kernels; or of all of the
    /// architecture, if these are `all`.
    pub fn record(&mut self, arch: u32, usages: &[Usage], all: bool) {
        let measured = |kernel: &str| usages.iter().any(|u| u.kernel == kernel);
        self.0.retain(|(a, u)| *a != arch || !all && !measured(&u.kernel));
        self.0.extend(usages.iter().map(|u| (arch, u.clone())));
        self.0.sort_by(|(a, u), (b, v)| (a, &u.kernel).cmp(&(b, &v.kernel)));
    }

    /// The text that [`Bounds::parse`] reads.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::from("# kernel architecture registers stack spills\n");
        for (arch, u) in &self.0 {
            let _ =
                writeln!(text, "{} sm_{arch} {} {} {}", u.kernel, u.registers, u.stack, u.spills);
        }
        text
    }

    /// What needs more than its bound and a tenth, or 64 bytes, more: compilers differ by as much. Where nothing is
    /// spilled, nothing may be. A kernel without a bound is a finding, too.
    #[must_use]
    pub fn exceeded(&self, arch: u32, usages: &[Usage]) -> Vec<String> {
        let mut findings = Vec::new();
        for usage in usages {
            let bound = self.0.iter().find(|(a, b)| *a == arch && b.kernel == usage.kernel);
            let Some((_, bound)) = bound else {
                findings.push(format!("{}: no bound on sm_{arch}: --bless it", usage.kernel));
                continue;
            };
            let mut compare = |what: &str, now: u32, then: u32, slack: u32| {
                if now > then + slack.max(then / 10) {
                    let kernel = &usage.kernel;
                    findings.push(format!("{kernel}: {now} {what} on sm_{arch}, bound {then}"));
                }
            };
            compare("registers", usage.registers, bound.registers, 8);
            compare("bytes of stack", usage.stack, bound.stack, 64);
            let slack = if bound.spills > 0 { 64 } else { 0 };
            compare("bytes of spills", usage.spills, bound.spills, slack);
        }
        findings
    }
}

fn parse_bound(line: &str) -> Option<(u32, Usage)> {
    let mut words = line.split_whitespace();
    let kernel = words.next()?.to_owned();
    let arch = words.next()?.strip_prefix("sm_")?.parse().ok()?;
    let mut number = || words.next()?.parse().ok();
    let (registers, stack, spills) = (number()?, number()?, number()?);
    words
        .next()
        .is_none()
        .then_some((arch, Usage { kernel, registers, stack, spills, pointers: 0 }))
}

/// Which kernels might run out of stack in what they call through pointers: a panic's message, say, would be lost.
#[must_use]
pub fn too_deep(arch: u32, usages: &[Usage]) -> Vec<String> {
    let deep = usages.iter().filter(|u| u.pointers > POINTER_STACK);
    deep.map(|Usage { kernel, pointers, .. }| {
        format!(
            "{kernel}: {pointers} bytes of stack in what it calls through pointers on sm_{arch}, \
             {POINTER_STACK} are given"
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(body: &str) -> String {
        format!(".visible .entry k(\n)\n{{\n\t{body}\n\tret;\n}}\n")
    }

    fn findings(ptx: &str) -> String {
        module(ptx).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn unscoped_atomics_are_found() {
        assert!(findings(&entry("atom.global.add.u32 %r1, [%rd1], 1;")).contains("no order"));
        assert!(findings(&entry("atom.relaxed.add.u32 %r1, [%rd1], 1;")).contains("no scope"));
        assert!(
            findings(&entry("@%p1 atom.acq_rel.sys.cas.b32 %r1, [%rd1], 1, 2;")).contains("bus")
        );
        assert!(findings(&entry("ld.volatile.b32 %r1, [%rd1];")).contains("volatile"));
        assert_eq!(findings(&entry("atom.relaxed.gpu.add.u32 %r1, [%rd1], 1;")), "");
    }

    #[test]
    fn a_memory_function_that_calls_itself_is_found() {
        let ptx = ".func memcpy(\n)\n{\n\tcall.uni (retval0), memcpy, (param0);\n\tret;\n}\n";
        assert!(findings(ptx).contains("memcpy calls itself"));
    }

    #[test]
    fn golden_texts_name_the_kernel_and_its_instructions() {
        let text =
            synchronisation(&entry("ld.b32 %r2, [%rd1];\n\tld.acquire.sys.b32 %r1, [%rd1];"));
        assert_eq!(text, "k: ld.acquire.sys.b32\n");
        assert!(same_synchronisation("# note\nk: ld.acquire.sys.b32\n", &text).is_ok());
        let e = same_synchronisation("k: ld.acquire.gpu.b32\n", &text).unwrap_err().to_string();
        assert!(
            e.contains("- k: ld.acquire.gpu.b32") && e.contains("+ k: ld.acquire.sys.b32"),
            "{e}"
        );
    }

    #[test]
    fn what_is_called_through_pointers_has_a_limit() {
        let of =
            |pointers| Usage { kernel: "k".into(), registers: 8, stack: 0, spills: 0, pointers };
        assert!(too_deep(90, &[of(2048)]).is_empty());
        let findings = too_deep(90, &[of(0), of(2049)]);
        assert!(matches!(&findings[..], [one] if one.contains("k: 2049 bytes")), "{findings:?}");
    }

    #[test]
    fn bounds_catch_what_grows() {
        let usage = |registers, spills| Usage {
            kernel: "k".into(),
            registers,
            stack: 0,
            spills,
            pointers: 0,
        };
        let mut bounds = Bounds::default();
        bounds.record(90, &[usage(90, 0)], true);
        bounds.record(90, &[usage(40, 0)], false);
        assert_eq!(Bounds::parse(&bounds.to_text()).unwrap(), bounds);
        assert!(bounds.exceeded(90, &[usage(48, 0)]).is_empty());
        assert_eq!(bounds.exceeded(90, &[usage(49, 1)]).len(), 2);
        let findings = bounds.exceeded(80, &[usage(40, 0)]);
        assert!(matches!(&findings[..], [one] if one.contains("no bound on sm_80")));
        bounds.record(90, &[usage(40, 8)], false);
        assert!(bounds.exceeded(90, &[usage(40, 72)]).is_empty());
        assert_eq!(bounds.exceeded(90, &[usage(40, 73)]).len(), 1);
        assert!(Bounds::parse("k 90 1 2 3\n").is_err());
    }
}
