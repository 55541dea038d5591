//! A function's lines, where each leads, and which of its registers are read unwritten.

use super::line::{Kind, Line, code, names};
use fixedbitset::FixedBitSet;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// The body of a function.
pub(super) struct Body<'a> {
    text: &'a [&'a str],
    lines: Vec<Line<'a>>,
    /// The first has no lines: the function begins with it.
    blocks: Vec<Block>,
    tables: HashMap<&'a str, Table<'a>>,
    /// By number.
    registers: Vec<Register<'a>>,
    numbers: HashMap<&'a str, usize>,
}

struct Register<'a> {
    name: &'a str,
    /// How zero is written to it, if that is known.
    width: Option<&'static str>,
}

/// Lines that are carried out one after the other.
struct Block {
    lines: std::ops::Range<usize>,
    /// The block that follows if the last line does not lead elsewhere.
    falls: Option<usize>,
    /// Those that the last line may lead to.
    jumps: Vec<usize>,
}

struct Table<'a> {
    lines: std::ops::Range<usize>,
    labels: Vec<&'a str>,
}

/// What is written to, and where.
#[derive(Default)]
struct Edits {
    /// Before these lines.
    before: BTreeMap<usize, Vec<usize>>,
    /// On the way from a line that branches to a label.
    between: BTreeMap<(usize, usize), Vec<usize>>,
}

impl<'a> Body<'a> {
    /// Reads the lines of a function; `None` if they are not understood.
    pub(super) fn of(text: &'a [&'a str]) -> Option<Body<'a>> {
        let lines: Vec<Line<'a>> = text.iter().map(|line| Line::of(line)).collect::<Option<_>>()?;
        let mut types = HashMap::new();
        let mut tables = HashMap::new();
        for (i, line) in lines.iter().enumerate() {
            match line.kind {
                // A second time in a scope within.
                Kind::Registers(name, kind) if types.insert(name, kind).is_some() => return None,
                Kind::Table(label) => {
                    let len = 1 + text[i..].iter().position(|line| line.contains(';'))?;
                    let list = text[i..i + len].iter().flat_map(|line| names(line));
                    let is_target = |name: &&str| *name != label && *name != ".branchtargets";
                    let labels = list.filter(is_target).collect();
                    let table = Table { lines: i..i + len, labels };
                    if tables.insert(label, table).is_some() {
                        return None;
                    }
                }
                _ => {}
            }
        }
        let blocks = blocks(&lines, &tables)?;
        let mut body =
            Body { text, lines, blocks, tables, registers: vec![], numbers: HashMap::new() };
        body.number(&types);
        Some(body)
    }

    /// Gives each register a number.
    fn number(&mut self, types: &HashMap<&'a str, &'a str>) {
        for line in &self.lines {
            for &name in &line.mentions {
                let kind = types.get(name.trim_end_matches(|c: char| c.is_ascii_digit()));
                let (Some(kind), None) = (kind, self.numbers.get(name)) else { continue };
                let width = match kind.trim_start_matches(['b', 'u', 's', 'f']) {
                    "pred" => Some("pred"),
                    "16" => Some("b16"),
                    "32" => Some("b32"),
                    "64" => Some("b64"),
                    _ => None,
                };
                self.numbers.insert(name, self.registers.len());
                self.registers.push(Register { name, width });
            }
        }
    }

    /// The lines, with all registers written to before they are read; `None` if they are already.
    pub(super) fn assigned(&self) -> Option<Vec<String>> {
        let live = self.live();
        let mut open = live[0].clone();
        for (number, register) in self.registers.iter().enumerate() {
            if register.width.is_none() {
                open.remove(number);
            }
        }
        if open.is_clear() {
            return None;
        }
        Some(self.edited(&self.edits(&open, &live)))
    }

    fn numbers<'s>(&'s self, names: &'s [&str]) -> impl Iterator<Item = usize> + use<'s, 'a> {
        names.iter().filter_map(|name| self.numbers.get(name).copied())
    }

    fn no_registers(&self) -> FixedBitSet {
        FixedBitSet::with_capacity(self.registers.len())
    }

    /// For each block, the registers whose values matter when it begins.
    fn live(&self) -> Vec<FixedBitSet> {
        let mut read = Vec::new();
        let mut written = Vec::new();
        for block in &self.blocks {
            let (mut reads, mut writes) = (self.no_registers(), self.no_registers());
            for line in &self.lines[block.lines.clone()] {
                // What it reads; a register that it writes to comes first, and once more if it is read.
                let reads_of_line = line.mentions.iter().skip(line.writes.len());
                for number in reads_of_line.filter_map(|name| self.numbers.get(name).copied()) {
                    if !writes.contains(number) {
                        reads.insert(number);
                    }
                }
                self.numbers(&line.writes).for_each(|number| writes.insert(number));
            }
            read.push(reads);
            written.push(writes);
        }
        let before = self.before();
        let mut live = read.clone();
        let mut todo: VecDeque<usize> = (0..self.blocks.len()).rev().collect();
        while let Some(block) = todo.pop_front() {
            let mut at_start = self.no_registers();
            for next in self.blocks[block].next() {
                at_start.union_with(&live[next]);
            }
            at_start.difference_with(&written[block]);
            at_start.union_with(&read[block]);
            if at_start != live[block] {
                live[block] = at_start;
                todo.extend(&before[block]);
            }
        }
        live
    }

    /// The blocks that lead to each block.
    fn before(&self) -> Vec<Vec<usize>> {
        let mut before = vec![vec![]; self.blocks.len()];
        for (number, block) in self.blocks.iter().enumerate() {
            block.next().for_each(|next| before[next].push(number));
        }
        before
    }

    /// For each block that can be reached, the registers that something may have mentioned before it begins, and by its end.
    fn mentioned(&self) -> Vec<Option<[FixedBitSet; 2]>> {
        let mut mentioned: Vec<Option<[FixedBitSet; 2]>> = vec![None; self.blocks.len()];
        mentioned[0] = Some([self.no_registers(), self.no_registers()]);
        let mut todo = VecDeque::from([0]);
        while let Some(number) = todo.pop_front() {
            let block = &self.blocks[number];
            let Some([start, end]) = &mut mentioned[number] else { continue };
            end.union_with(start);
            for line in &self.lines[block.lines.clone()] {
                line.mentions
                    .iter()
                    .filter_map(|name| self.numbers.get(name))
                    .for_each(|n| end.insert(*n));
            }
            let end = end.clone();
            for next in block.next() {
                match &mut mentioned[next] {
                    Some([start, _]) if end.is_subset(start) => continue,
                    Some([start, _]) => start.union_with(&end),
                    unseen => *unseen = Some([end.clone(), self.no_registers()]),
                }
                todo.push_back(next);
            }
        }
        mentioned
    }

    /// Where registers that are `open` at the beginning, read on some path without having been written to, are to be
    /// written to.
    fn edits(&self, open: &FixedBitSet, live: &[FixedBitSet]) -> Edits {
        let mentioned = self.mentioned();
        let mut edits = Edits::default();
        for (number, block) in self.blocks.iter().enumerate() {
            let Some([start, end]) = &mentioned[number] else { continue };
            // Nothing has mentioned them yet, and they matter.
            let mut here = open & &live[number];
            here.difference_with(start);
            for at in block.lines.clone() {
                for register in self.numbers(&self.lines[at].mentions) {
                    if here.contains(register) {
                        here.remove(register);
                        edits.before.entry(at).or_default().push(register);
                    }
                }
            }
            // Nor has anything by now, but on another path to what comes next something has.
            let joins = |next: usize| {
                let mut here = open & &live[next];
                here.difference_with(end);
                if let Some([start, _]) = &mentioned[next] {
                    here.intersect_with(start);
                }
                here.ones().collect::<Vec<_>>()
            };
            let last = block.lines.end.wrapping_sub(1);
            let always = block.falls.is_none() && block.jumps.len() == 1;
            let place = match block.falls {
                _ if always => last,
                _ => block.lines.end,
            };
            for next in
                block.falls.into_iter().chain(block.jumps.iter().copied().filter(|_| always))
            {
                edits.before.entry(place).or_default().extend(joins(next));
            }
            for &next in block.jumps.iter().filter(|_| !always) {
                edits.between.insert((last, next), joins(next));
            }
        }
        edits
    }

    fn edited(&self, edits: &Edits) -> Vec<String> {
        // Detours: what is written to on the way to a label, for whoever comes that way.
        let mut detours: BTreeMap<(&str, &[usize]), String> = BTreeMap::new();
        let mut renamed: HashMap<usize, Vec<(&str, String)>> = HashMap::new();
        for (&(line, next), registers) in edits.between.iter().filter(|(_, r)| !r.is_empty()) {
            let Kind::Label(label) = self.lines[self.blocks[next].lines.start].kind else {
                continue;
            };
            let number = detours.len();
            let detour = detours
                .entry((label, registers))
                .or_insert_with(|| format!("$L_assigned_{number}"))
                .clone();
            let lines = match self.lines[line].kind {
                Kind::Switch(table, _) => self.tables[table].lines.clone(),
                _ => line..line + 1,
            };
            lines.for_each(|line| renamed.entry(line).or_default().push((label, detour.clone())));
        }
        let mut out = Vec::with_capacity(self.text.len() + 64);
        let put = |out: &mut Vec<String>, registers: &[usize]| {
            for Register { name, width } in registers.iter().map(|number| &self.registers[*number])
            {
                out.push(format!("\tmov.{} \t%{name}, 0;", width.unwrap_or_default()));
            }
        };
        for (at, line) in self.text.iter().enumerate() {
            put(&mut out, edits.before.get(&at).map_or(&[], Vec::as_slice));
            let names = renamed.get(&at).map_or(&[][..], Vec::as_slice);
            out.push(
                names.iter().fold(line.to_string(), |line, (old, new)| rename(&line, old, new)),
            );
        }
        // A function may end without saying so.
        let is_code = |at: &usize| !code(self.text[*at]).trim().is_empty();
        let last = (0..self.lines.len()).rev().find(is_code).map(|at| &self.lines[at].kind);
        let ends =
            matches!(last, Some(Kind::End | Kind::Branch(_, false) | Kind::Switch(_, false)));
        if !detours.is_empty() && !ends {
            out.push("\tret;".into());
        }
        for ((label, registers), detour) in detours {
            out.push(format!("{detour}:"));
            put(&mut out, registers);
            out.push(format!("\tbra.uni \t{label};"));
        }
        out
    }
}

impl Block {
    fn next(&self) -> impl Iterator<Item = usize> {
        self.falls.into_iter().chain(self.jumps.iter().copied())
    }
}

/// Takes lines apart where they are led to and lead away; `None` if it is not known where.
fn blocks<'a>(lines: &[Line<'a>], tables: &HashMap<&'a str, Table<'a>>) -> Option<Vec<Block>> {
    let mut blocks = vec![Block { lines: 0..0, falls: Some(1), jumps: vec![] }];
    let mut labels = HashMap::new();
    let mut start = 0;
    for (at, line) in lines.iter().enumerate() {
        if let Kind::Label(label) = line.kind {
            if at > start {
                blocks.push(Block { lines: start..at, falls: None, jumps: vec![] });
                start = at;
            }
            if labels.insert(label, blocks.len()).is_some() || label.starts_with("$L_assigned_") {
                return None;
            }
        }
        let leads_on = matches!(line.kind, Kind::Branch(..) | Kind::Switch(..) | Kind::End);
        if leads_on || at + 1 == lines.len() {
            blocks.push(Block { lines: start..at + 1, falls: None, jumps: vec![] });
            start = at + 1;
        }
    }
    let count = blocks.len();
    let mut switches = HashSet::new();
    for (number, block) in blocks.iter_mut().enumerate().skip(1) {
        let falls = match lines[block.lines.end - 1].kind {
            Kind::Branch(label, falls) => {
                block.jumps.push(*labels.get(label)?);
                falls
            }
            Kind::Switch(table, falls) => {
                if !switches.insert(table) {
                    return None;
                }
                for label in &tables.get(table)?.labels {
                    block.jumps.push(*labels.get(label)?);
                }
                falls
            }
            Kind::End => false,
            _ => true,
        };
        block.falls = (falls && number + 1 < count).then_some(number + 1);
    }
    (count > 1).then_some(blocks)
}

/// The text with one name in place of another.
fn rename(text: &str, old: &str, new: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    for name in names(text) {
        let at = name.as_ptr() as usize - rest.as_ptr() as usize;
        out.push_str(&rest[..at]);
        out.push_str(if name == old { new } else { name });
        rest = &rest[at + name.len()..];
    }
    out.push_str(rest);
    out
}
