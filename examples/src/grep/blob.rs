//! Writes the sections of a device program.

use std::collections::HashMap;

use bytemuck::{Zeroable, bytes_of, cast_slice};
use gpu_kernels::grep::{
    Accept, Find, Header, PROGRAM_MAGIC, PROGRAM_VERSION, Phrase, Probe, Run, Section, SetEntry,
    SetHeader, ShapeHeader, Slot, WORD_INDEX_LEN, WordsHeader, block_hash, hash_run, prefix_hash,
};

use super::shape::Shape;

/// The parts of a program before they are laid out. Empty ones are left out.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) flags: u32,
    pub(super) needle: Vec<u8>,
    pub(super) set: Vec<u8>,
    pub(super) shape: Vec<u8>,
    pub(super) words: Vec<u8>,
    pub(super) dfa: Vec<u8>,
    pub(super) word_chars: Vec<u8>,
    pub(super) starts: [u32; 8],
}

impl Parts {
    /// Lays the program out; the words are those of one contiguous blob.
    pub(super) fn assemble(&self, find: Find, accept: Accept) -> Vec<u64> {
        let mut blob = vec![0u8; size_of::<Header>().next_multiple_of(8)];
        let mut add = |bytes: &[u8]| {
            let section = match bytes.is_empty() {
                true => Section::default(),
                false => Section { offset: blob.len() as u32, len: bytes.len() as u32 },
            };
            blob.extend_from_slice(bytes);
            blob.resize(blob.len().next_multiple_of(8), 0);
            section
        };
        let mut header = Header {
            magic: PROGRAM_MAGIC,
            version: PROGRAM_VERSION,
            find: find as u32,
            accept: accept as u32,
            flags: self.flags,
            needle: add(&self.needle),
            set: add(&self.set),
            shape: add(&self.shape),
            words: add(&self.words),
            dfa: add(&self.dfa),
            word_chars: add(&self.word_chars),
            starts: self.starts,
            ..Header::zeroed()
        };
        header.total = blob.len() as u32;
        blob[..size_of::<Header>()].copy_from_slice(bytes_of(&header));
        bytemuck::pod_collect_to_vec(&blob)
    }
}

/// So many literals are looked for by their probes.
pub(super) const PROBES_MAX: usize = 16;

/// The section of a set of literals, all different and none of them empty; in lower case if they are to fold.
pub(super) fn set(literals: &[Vec<u8>], fold: bool) -> Vec<u8> {
    let window = literals.iter().map(Vec::len).min().unwrap_or(1).max(1);
    let block = window.min(2);
    let shift_bits = if block == 1 { 8 } else { 12 };
    let bucket_bits = (literals.len().next_power_of_two().ilog2() + 1).clamp(4, 16);

    let far = (window - block + 1).min(255) as u8;
    let mut shifts = vec![far; 1 << shift_bits];
    let mut order: Vec<&Vec<u8>> = literals.iter().collect();
    for literal in &order {
        for at in 0..=window - block {
            let distance = (window - block - at).min(255) as u8;
            let shift = &mut shifts[block_hash(&literal[at..at + block], shift_bits)];
            *shift = distance.min(*shift);
        }
    }
    let bucket = |l: &[u8]| prefix_hash(&l[..block], bucket_bits);
    order.sort_by_key(|l| (bucket(l), std::cmp::Reverse(l.len())));

    let mut buckets = vec![0u32; (1 << bucket_bits) + 1];
    let (mut entries, mut bytes) = (Vec::new(), Vec::new());
    for literal in &order {
        buckets[bucket(literal) + 1] += 1;
        entries.push(SetEntry { offset: bytes.len() as u32, len: literal.len() as u32 });
        bytes.extend_from_slice(literal);
    }
    for i in 1..buckets.len() {
        buckets[i] += buckets[i - 1];
    }
    let probes: Vec<Probe> = match order.len() {
        ..=PROBES_MAX => order.iter().map(|l| probe(l, fold)).collect(),
        _ => Vec::new(),
    };
    let header = SetHeader {
        window: window as u32,
        block: block as u32,
        shift_bits,
        bucket_bits,
        entries: entries.len() as u32,
        bytes: bytes.len() as u32,
        probes: probes.len() as u32,
        longest: literals.iter().map(Vec::len).max().unwrap_or(0) as u32,
    };
    // The bucket bounds are odd in number; all that follows is made of `u32` too.
    let tables: [&[u8]; 6] = [
        bytes_of(&header),
        &shifts,
        cast_slice(&buckets),
        cast_slice(&entries),
        cast_slice(&probes),
        &bytes,
    ];
    tables.concat()
}

/// The two rarest bytes of a literal; the same one twice if it has but one.
fn probe(literal: &[u8], fold: bool) -> Probe {
    // The vector code looks ahead as far as the farthest probe.
    let mut places: Vec<usize> = (0..literal.len().min(64)).collect();
    places.sort_by_key(|&at| std::cmp::Reverse(rarity(literal[at])));
    let at = [places[0], places[places.len().min(2) - 1]];
    let case = at.map(|at| if fold && literal[at].is_ascii_alphabetic() { 0x20 } else { 0 });
    let bytes = [literal[at[0]] | case[0], literal[at[1]] | case[1]];
    Probe { at: at.map(|at| at as u16), bytes, case }
}

/// How rare a byte is in prose and source code, roughly: greater is rarer.
pub(super) fn rarity(b: u8) -> u8 {
    match b {
        b' ' => 0,
        b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' => 1,
        b'l' | b'd' | b'c' | b'u' | b'h' | b'm' | b'p' => 2,
        b'f' | b'g' | b'y' | b'b' | b'w' | b'v' | b'_' | b'.' | b',' | b'-' | b'"' | b'/' => 3,
        b'k' | b'x' | b'0'..=b'9' | b'(' | b')' | b':' | b';' | b'=' | b'<' | b'>' => 4,
        b'j' | b'q' | b'z' => 5,
        _ => 6,
    }
}

/// Which part of a text a byte makes up, roughly.
pub(super) fn frequency(b: u8) -> f64 {
    0.125 / f64::from(1 << rarity(b))
}

/// The section of a shape.
pub(super) fn shape(shape: &Shape) -> Vec<u8> {
    let tests = shape.tests.len() as u32;
    let header = ShapeHeader { tests, at_start: shape.at_start.into() };
    [bytes_of(&header), cast_slice(&shape.tests)].concat()
}

/// A pattern of the words section: its bytes and where its first run of word characters lies.
pub(super) struct Word {
    pub(super) bytes: Vec<u8>,
    pub(super) run: std::ops::Range<usize>,
}

/// The section of many words; in lower case if they are to fold.
pub(super) fn words(words: &[Word], fold: bool) -> Vec<u8> {
    let mut by_run: HashMap<&[u8], (bool, Vec<&Word>)> = HashMap::new();
    for word in words {
        let (whole, phrases) = by_run.entry(&word.bytes[word.run.clone()]).or_default();
        if word.run == (0..word.bytes.len()) {
            *whole = true;
        } else {
            phrases.push(word);
        }
    }
    let mut sorted: Vec<_> = by_run.into_iter().collect();
    sorted.sort_by_key(|(run, _)| *run);

    let slot_bits = (2 * sorted.len() + 1).next_power_of_two().ilog2();
    let filter_bits = (slot_bits + 3).clamp(5, 28);
    let mut filter = vec![0u32; 1 << (filter_bits - 5)];
    let mut slots = vec![Slot::default(); 1 << slot_bits];
    let (mut runs, mut phrases, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for (run, (whole, of_run)) in &sorted {
        let hash = hash_run(run, fold);
        let bit = hash as usize & (filter.len() * 32 - 1);
        filter[bit / 32] |= 1 << (bit % 32);
        let mut at = hash as usize & (slots.len() - 1);
        while slots[at].run != 0 {
            at = (at + 1) & (slots.len() - 1);
        }
        slots[at] = Slot { tag: (hash >> 32) as u32, run: runs.len() as u32 + 1 };
        runs.push(Run {
            offset: bytes.len() as u32,
            len: run.len() as u32 | if *whole { Run::WHOLE } else { 0 },
            first_phrase: phrases.len() as u32,
            phrases: of_run.len() as u32,
        });
        bytes.extend_from_slice(run);
        for word in of_run {
            phrases.push(Phrase {
                offset: bytes.len() as u32,
                len: word.bytes.len() as u32,
                lead: word.run.start as u32,
            });
            bytes.extend_from_slice(&word.bytes);
        }
    }
    let header = WordsHeader {
        filter_bits,
        slot_bits,
        runs: runs.len() as u32,
        phrases: phrases.len() as u32,
        bytes: bytes.len() as u32,
        longest: sorted.iter().map(|(run, _)| run.len()).max().unwrap_or(0) as u32,
    };
    let tables: [&[u8]; 6] = [
        bytes_of(&header),
        cast_slice(&filter),
        cast_slice(&slots),
        cast_slice(&runs),
        cast_slice(&phrases),
        &bytes,
    ];
    tables.concat()
}

/// The section of word characters, given as sorted ranges.
pub(super) fn word_chars(ranges: &[(u32, u32)]) -> Vec<u8> {
    let mut blocks: Vec<[u32; 8]> = vec![[0; 8]];
    let mut index = vec![0u16; WORD_INDEX_LEN];
    let mut bits = vec![[0u32; 8]; WORD_INDEX_LEN];
    for c in ranges.iter().flat_map(|&(a, b)| a..=b) {
        bits[c as usize / 256][c as usize % 256 / 32] |= 1 << (c % 32);
    }
    let mut numbers = HashMap::from([([0u32; 8], 0u16)]);
    for (place, block) in index.iter_mut().zip(bits) {
        *place = *numbers.entry(block).or_insert_with(|| {
            blocks.push(block);
            blocks.len() as u16 - 1
        });
    }
    [cast_slice::<u16, u8>(&index), cast_slice(&blocks)].concat()
}
