//! Definite assignment: no register is read where nothing may have been written to it.
//!
//! Compilers leave values undefined that are of no interest, such as what an `Ok` would hold where there is an `Err`:
//! paths join, and on some of them nothing has written to the register that is read behind the join, if only to be
//! thrown away.
//!
//! ```text
//!        @%p1 bra  $L2;               @%p1 bra  $L_assigned_0;
//!        ld.b64    %rd1, [%rd2];      ld.b64    %rd1, [%rd2];
//!   $L2: st.b64    [%rd3], %rd1;  $L2: st.b64   [%rd3], %rd1;
//!        ret;                         ret;
//!                                 $L_assigned_0:
//!                                      mov.b64   %rd1, 0;
//!                                      bra.uni   $L2;
//! ```
//!
//! What was in `%rd1` before must then be kept, as far as an assembler can tell: back to the beginning of the
//! function, of its callers, and of the kernel, of which `ptxas` allots the registers together. A register for each
//! of these, used for nothing else: a quarter to a half of all that there are, in kernels that open files and
//! serve sockets.
//!
//! So they are written to, where their paths join the others. Nothing else changes: only what *no* path has
//! mentioned is written to. A function with something in it that this does not understand is left as it is.

mod body;
mod line;

use crate::ptx;
use body::Body;
use line::code;

/// The same module, in which no register is read where nothing may have been written to it.
#[must_use]
pub fn assign(module: &str) -> String {
    let mut out = String::with_capacity(module.len() + module.len() / 64);
    let mut put = |lines: &[&str]| {
        for line in lines {
            out.push_str(line);
            out.push('\n');
        }
    };
    let mut lines = module.lines();
    let mut is_function = false;
    while let Some(line) = lines.next() {
        put(&[line]);
        if ptx::function_header(line).is_some() {
            is_function = true;
        } else if line.starts_with(';') {
            is_function = false;
        } else if line == "{" && is_function {
            is_function = false;
            let mut depth = 1i32;
            let inside = |line: &&str| {
                let count = |brace| code(line).matches(brace).count() as i32;
                depth += count('{') - count('}');
                depth > 0
            };
            let body: Vec<&str> = lines.clone().take_while(inside).collect();
            // What closes it is next.
            lines.by_ref().take(body.len()).for_each(drop);
            match Body::of(&body).and_then(|body| body.assigned()) {
                Some(new) => put(&new.iter().map(String::as_str).collect::<Vec<_>>()),
                None => put(&body),
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::line::{Kind, Line, names};
    use super::*;
    use std::collections::HashSet;

    fn module(body: &[&str]) -> String {
        let head = ".func  (.param .b32 func_retval0) f(\n\t.param .b64 f_param_0\n)\n{";
        let registers = "\t.reg .pred \t%p<9>;\n\t.reg .b32 \t%r<99>;\n\t.reg .b64 \t%rd<99>;";
        format!(".version 7.0\n{head}\n{registers}\n{}\n}}\n.global .b8 x[4];\n", body.join("\n"))
    }

    fn assert_becomes(before: &[&str], after: &[&str]) {
        let assigned = assign(&module(before));
        assert_eq!(assigned, module(after), "is\n{assigned}");
        assert_eq!(assign(&assigned), assigned, "a second time");
    }

    #[test]
    fn it_is_done_where_paths_join() {
        assert_becomes(
            &[
                "\tsetp.eq.b32 \t%p1, %r1, 0;",
                "\t@%p1 bra \t$L1;",
                "\tld.b64 \t%rd1, [%rd2];",
                "$L1:",
                "\tst.b64 \t[%rd3], %rd1;",
                "\tret;",
            ],
            &[
                // These are read on every path, and written to on none.
                "\tmov.b32 \t%r1, 0;",
                "\tsetp.eq.b32 \t%p1, %r1, 0;",
                "\t@%p1 bra \t$L_assigned_0;",
                "\tmov.b64 \t%rd2, 0;",
                "\tld.b64 \t%rd1, [%rd2];",
                "$L1:",
                "\tmov.b64 \t%rd3, 0;",
                "\tst.b64 \t[%rd3], %rd1;",
                "\tret;",
                "$L_assigned_0:",
                "\tmov.b64 \t%rd1, 0;",
                "\tbra.uni \t$L1;",
            ],
        );
    }

    #[test]
    fn what_falls_into_a_loop_is_assigned_before_it() {
        assert_becomes(
            &[
                "\tmov.b32 \t%r1, 0;",
                "$L1:",
                "\tadd.s32 \t%r1, %r1, %r2;",
                "\tadd.s32 \t%r2, %r1, 1;",
                "\tsetp.lt.u32 \t%p1, %r2, 9;",
                "\t@%p1 bra \t$L1;",
                "\tret;",
            ],
            &[
                "\tmov.b32 \t%r1, 0;",
                "\tmov.b32 \t%r2, 0;",
                "$L1:",
                "\tadd.s32 \t%r1, %r1, %r2;",
                "\tadd.s32 \t%r2, %r1, 1;",
                "\tsetp.lt.u32 \t%p1, %r2, 9;",
                "\t@%p1 bra \t$L1;",
                "\tret;",
            ],
        );
    }

    #[test]
    fn whoever_comes_with_the_same_need_goes_the_same_way() {
        assert_becomes(
            &[
                "\tld.param.b32 \t%r1, [f_param_0];",
                "\t$L_brx_0: .branchtargets",
                "\t\t$L1,",
                "\t\t$L10;",
                "\tsetp.lt.u32 \t%p1, %r1, 9;",
                "\t@%p1 bra \t$L1;",
                "\tbrx.idx \t%r1, $L_brx_0;",
                "$L10:",
                "\tmov.b32 \t%r2, 7;",
                "\tmov.b32 \t%r3, 8;",
                "$L1:",
                "\tst.b32 \t[%r1], %r2;",
                "\tst.b32 \t[%r1], %r3;",
                "\tret;",
            ],
            &[
                "\tld.param.b32 \t%r1, [f_param_0];",
                "\t$L_brx_0: .branchtargets",
                "\t\t$L_assigned_0,",
                "\t\t$L10;",
                "\tsetp.lt.u32 \t%p1, %r1, 9;",
                "\t@%p1 bra \t$L_assigned_0;",
                "\tbrx.idx \t%r1, $L_brx_0;",
                "$L10:",
                "\tmov.b32 \t%r2, 7;",
                "\tmov.b32 \t%r3, 8;",
                "$L1:",
                "\tst.b32 \t[%r1], %r2;",
                "\tst.b32 \t[%r1], %r3;",
                "\tret;",
                "$L_assigned_0:",
                "\tmov.b32 \t%r2, 0;",
                "\tmov.b32 \t%r3, 0;",
                "\tbra.uni \t$L1;",
            ],
        );
    }

    #[test]
    fn a_write_that_may_not_happen_is_none() {
        assert_becomes(
            &["\tsetp.eq.b32 \t%p1, 1, 0;", "\t@%p1 mov.b32 \t%r1, 1;", "\tst.b32 \t[x], %r1;"],
            &[
                "\tsetp.eq.b32 \t%p1, 1, 0;",
                "\tmov.b32 \t%r1, 0;",
                "\t@%p1 mov.b32 \t%r1, 1;",
                "\tst.b32 \t[x], %r1;",
            ],
        );
    }

    #[test]
    fn what_is_not_understood_stays() {
        for strange in [
            "\tbra.uni \t$L_nowhere;",
            "\tbrx.idx \t%r1, $L_nowhere;",
            "$L1:\n$L1:",
            "\t{ @%p1 bra $L1; }",
            "/* open",
            "\t.reg .b32 \t%r<5>;",
            "\t.reg .b128 \t%rq<5>;\n\tst.b128 [x], %rq1;",
        ] {
            // But for what it reads in the last case, nothing would have to be done.
            let body = if strange.contains("rq") {
                vec![strange]
            } else {
                vec!["\tst.b32 [x], %r1;", strange]
            };
            assert_becomes(&body, &body);
        }
        let cut = "{\n.func f()\n{\n\t.reg .b32 %r<3>;\n\tst.b32 [x], %r1;\n";
        assert_eq!(assign(cut).matches("mov.b32").count(), 1, "cut short, but a function");
        assert!(assign("}\n{\n.entry k()\n;\n{\n").starts_with("}\n{\n"));
    }

    /// A small generator of numbers.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) % n
        }
    }

    /// Blocks of random lines that lead to random blocks.
    fn random(numbers: &mut Numbers) -> Vec<String> {
        let count = 2 + numbers.below(7);
        let mut lines = Vec::new();
        for block in 0..count {
            lines.push(format!("$L{block}:"));
            for _ in 0..numbers.below(4) {
                let (a, b) = (numbers.below(5), numbers.below(5));
                lines.push(match numbers.below(4) {
                    0 => format!("\tst.b32 \t[x], %r{a};"),
                    1 => format!("\tmov.b32 \t%r{a}, %r{b};"),
                    2 => format!("\t@%p1 mov.b32 \t%r{a}, 1;"),
                    _ => format!("\tmov.b32 \t%r{a}, 1;"),
                });
            }
            let to = numbers.below(count);
            match numbers.below(8) {
                0 => lines.push("\tret;".into()),
                1 => lines.push(format!("\tbra.uni \t$L{to};")),
                2 | 3 => {
                    lines.push(format!("\t$T{block}: .branchtargets $L{to},"));
                    lines.push(format!("\t\t$L{};", numbers.below(count)));
                    lines.push(format!("\tbrx.idx \t%r1, $T{block};"));
                }
                4..7 => lines.push(format!("\t@%p1 bra \t$L{to};")),
                _ => {}
            }
        }
        if numbers.below(2) == 0 {
            lines.push("\tret;".into());
        }
        lines
    }

    /// What is carried out on one of the paths, without what writes zero and how that is reached. Checks that
    /// writing zero changes nothing and, `if_assigned`, that nothing is read unwritten.
    fn walk(text: &str, choices: u64, is_assigned: bool) -> Vec<String> {
        let lines: Vec<&str> = text.lines().collect();
        let place = |start: &str| lines.iter().position(|line| line.trim().starts_with(start));
        let labels = |table: &str| {
            let at = place(&format!("{table}:")).unwrap();
            let both = lines[at..at + 2].iter().flat_map(|line| names(line));
            both.filter(|name| name.starts_with("$L")).collect::<Vec<_>>()
        };
        let (mut choices, mut at, mut walked) = (Numbers(choices), 0, Vec::new());
        let (mut written, mut mentioned) = (HashSet::new(), HashSet::new());
        let mut is_detour = false;
        while walked.len() < 60 && at < lines.len() {
            let line = Line::of(lines[at]).unwrap();
            let is_ours = lines[at].ends_with(", 0;");
            let reads = &line.mentions[line.writes.len()..];
            if is_assigned && !lines[at].starts_with("\t@") {
                let unwritten = reads.iter().find(|name| !written.contains(*name));
                assert_eq!(unwritten, None, "{} in\n{text}", lines[at]);
            }
            for name in &line.writes {
                assert!(!is_ours || !mentioned.contains(name), "{} in\n{text}", lines[at]);
                written.insert(*name);
            }
            mentioned.extend(line.mentions);
            at += 1;
            let jump = match line.kind {
                Kind::Plain if lines[at - 1].starts_with("\t\t") => continue,
                Kind::Plain | Kind::End if is_ours => continue,
                Kind::Plain | Kind::End => {
                    walked.push(lines[at - 1].to_owned());
                    if line.kind == Kind::End {
                        break;
                    }
                    continue;
                }
                Kind::Label(label) => {
                    is_detour = label.starts_with("$L_assigned_");
                    continue;
                }
                Kind::Branch(label, may_fall) => {
                    (!may_fall || choices.below(2) == 0).then_some(label)
                }
                Kind::Switch(table, _) => Some(labels(table)[choices.below(2) as usize]),
                Kind::Table(_) | Kind::Registers(..) => continue,
            };
            if !is_detour {
                walked.push(format!("jumps: {}", jump.is_some()));
            }
            if let Some(label) = jump {
                at = place(&format!("{label}:")).unwrap();
            }
        }
        if at == lines.len() && walked.last().is_none_or(|last| last != "\tret;") {
            walked.push("\tret;".into());
        }
        walked
    }

    #[test]
    fn every_path_does_what_it_did() {
        let mut numbers = Numbers(1);
        let mut changed = 0;
        for _ in 0..500 {
            let lines = random(&mut numbers);
            let before = module(&lines.iter().map(String::as_str).collect::<Vec<_>>());
            let after = assign(&before);
            changed += u32::from(before != after);
            assert_eq!(assign(&after), after);
            let body = |text: &str| {
                let lines = text.lines().skip_while(|line| *line != "{").skip(1);
                lines.take_while(|line| *line != "}").collect::<Vec<_>>().join("\n")
            };
            for _ in 0..20 {
                let choices = numbers.below(1 << 30);
                let (is, was) =
                    (walk(&body(&after), choices, true), walk(&body(&before), choices, false));
                assert_eq!(is, was, "{before}\n{after}");
            }
        }
        assert!(changed > 250, "{changed}");
    }
}
