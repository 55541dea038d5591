//! Several literals at once, after Wu and Manber ("A fast algorithm for multi-pattern
//! searching", 1994).
//!
//! A window of the length of the shortest literal slides over the text. The last bytes of the
//! window (a *block* of one or two) index a table of shifts: how far the window may move because
//! no literal has that block nearer its end. At shift zero the first bytes of the window choose
//! a bucket of literals to compare.
//!
//! Where it does not matter which literal comes first, a few literals are found faster by *probes*:
//! two bytes of each, rare ones, are compared at all places of a stretch of text at once, which
//! compilers turn into vector code on any target. (The packed pairs of the crate memchr, for several
//! needles and for both cases.)

use bytemuck::{Pod, Zeroable};
use gpu_rt::{VECTORS, Wide, wide};

use super::lanes::{LANES, Lanes, stretches};
use super::program::{ProgramError, table};

/// The start of a set's section; the tables follow in the order of its fields.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct SetHeader {
    /// Length of the shortest literal in bytes, at least 1: the window.
    pub window: u32,
    /// Bytes of a block: 1, or 2 where the window has as many.
    pub block: u32,
    /// The table of shifts has `1 << shift_bits` bytes; a multiple of four.
    pub shift_bits: u32,
    /// There are `(1 << bucket_bits) + 1` bucket bounds (`u32`).
    pub bucket_bits: u32,
    /// Number of [`SetEntry`]s.
    pub entries: u32,
    /// Bytes of all literals together.
    pub bytes: u32,
    /// Number of [`Probe`]s: as many as entries, or none.
    pub probes: u32,
    /// Length of the longest literal in bytes.
    pub longest: u32,
}

/// One literal. Those of a bucket stand together, longest first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct SetEntry {
    /// Where its bytes start among the bytes of all.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// Two bytes of the entry of the same number, to look for first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Probe {
    /// Offsets of the two in the literal.
    pub at: [u16; 2],
    /// The bytes, with the bits of `case` set.
    pub bytes: [u8; 2],
    /// The bits in which bytes of the text may differ.
    pub case: [u8; 2],
}

/// Index into the table of shifts for the block that is `bytes`.
#[inline]
pub fn block_hash(bytes: &[u8], bits: u32) -> usize {
    let v = match *bytes {
        [a] => a as u32,
        [a, b] => (a as u32).wrapping_mul(0x9e5).wrapping_add((b as u32).wrapping_mul(0x3b)),
        _ => 0,
    };
    (v & ((1 << bits) - 1)) as usize
}

/// Bucket of a literal or window that starts with `bytes` (as many as a block).
#[inline]
pub fn prefix_hash(bytes: &[u8], bits: u32) -> usize {
    let v = match *bytes {
        [a] => a as u32,
        [a, b] => (a as u32) << 8 | b as u32,
        _ => 0,
    };
    (v.wrapping_mul(0x9e37_79b1) >> (32 - bits)) as usize
}

/// A set of literals, its tables typed.
#[derive(Clone, Copy)]
pub(super) struct Set<'p> {
    window: usize,
    block: usize,
    shift_bits: u32,
    bucket_bits: u32,
    shifts: &'p [u8],
    buckets: &'p [u32],
    entries: &'p [SetEntry],
    bytes: &'p [u8],
    longest: usize,
    probes: &'p [Probe],
    /// Greatest offset of a probe.
    ahead: usize,
}

/// How far a search has come.
pub(super) struct Place {
    at: usize,
    /// Literals that were tried there.
    tried: usize,
}

impl Place {
    pub(super) fn new(from: usize) -> Place {
        Place { at: from, tried: 0 }
    }
}

impl<'p> Set<'p> {
    pub(super) fn new(section: &'p [u8]) -> Result<Self, ProgramError> {
        let (header, rest) = table::<SetHeader>(section, 1)?;
        let h = &header[0];
        let window = h.window as usize;
        if !(8..=16).contains(&h.shift_bits)
            || !(1..=20).contains(&h.bucket_bits)
            || !matches!((h.block, window), (1, 1..) | (2, 2..))
            || (h.probes != 0 && h.probes != h.entries)
        {
            return Err(ProgramError::Table);
        }
        let (shifts, rest) = table::<u8>(rest, 1 << h.shift_bits)?;
        let (buckets, rest) = table::<u32>(rest, (1 << h.bucket_bits) + 1)?;
        let (entries, rest) = table::<SetEntry>(rest, h.entries as usize)?;
        let (probes, rest) = table::<Probe>(rest, h.probes as usize)?;
        let (bytes, _) = table::<u8>(rest, h.bytes as usize)?;
        let ahead = probes.iter().flat_map(|p| p.at).max().unwrap_or(0) as usize;
        Ok(Set {
            window,
            block: h.block as usize,
            shift_bits: h.shift_bits,
            bucket_bits: h.bucket_bits,
            shifts,
            buckets,
            entries,
            bytes,
            longest: h.longest as usize,
            probes,
            ahead,
        })
    }

    /// What the searches rely on: every literal inside the bytes and no shorter than the window,
    /// bucket bounds in order.
    pub(super) fn check(&self) -> Result<(), ProgramError> {
        let literal_fits = |e: &SetEntry| {
            let (len, end) = (e.len as usize, e.offset as usize + e.len as usize);
            end <= self.bytes.len() && (self.window..=self.longest).contains(&len)
        };
        let ordered = self.buckets.is_sorted()
            && self.buckets.last().is_none_or(|&b| b as usize <= self.entries.len());
        let probe_fits = |(p, e): (&Probe, &SetEntry)| p.at.iter().all(|&at| u32::from(at) < e.len);
        let probes_fit = self.probes.iter().zip(self.entries).all(probe_fits);
        if ordered && probes_fit && self.entries.iter().all(literal_fits) {
            Ok(())
        } else {
            Err(ProgramError::Table)
        }
    }

    /// Length of the longest literal.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// The next literal at or after a place, and where it ends; those at one place come longest first. `FOLD`:
    /// in any ASCII case.
    // It takes no function that says which literal will do: on a GPU the addresses of all tables would be kept
    // around that.
    #[inline(never)]
    pub(super) fn next<const FOLD: bool>(
        &self,
        hay: &[u8],
        place: &mut Place,
    ) -> Option<(usize, usize)> {
        let mut at = place.at;
        let mut tried = place.tried;
        while at + self.window <= hay.len() {
            let end = at + self.window;
            let mut last = [0; 2];
            let block = copy_folded::<FOLD>(&hay[end - self.block..end], &mut last);
            let shift = self.shifts[block_hash(block, self.shift_bits)] as usize;
            if shift > 0 {
                at += shift;
                continue;
            }
            let mut first = [0; 2];
            let prefix = copy_folded::<FOLD>(&hay[at..at + self.block], &mut first);
            let bucket = self.bucket(prefix_hash(prefix, self.bucket_bits));
            for (number, entry) in bucket.iter().enumerate().skip(tried) {
                if let Some(end) = self.stands::<FOLD>(hay, at, entry) {
                    *place = Place { at, tried: number + 1 };
                    return Some((at, end));
                }
            }
            at += 1;
            tried = 0;
        }
        None
    }

    /// Some place at or after `from` where a literal stands, not always the first, but the first of
    /// a line before all of later lines.
    #[inline(never)]
    pub(super) fn find_any<const FOLD: bool>(
        &self,
        hay: &[u8],
        from: usize,
    ) -> Option<(usize, usize)> {
        if !VECTORS || self.probes.is_empty() {
            return self.next::<FOLD>(hay, &mut Place::new(from));
        }
        wide(Probing::<FOLD> { set: self, hay, from })
    }

    /// End of some literal that stands at `at`.
    #[inline(never)]
    fn any_stands<const FOLD: bool>(&self, hay: &[u8], at: usize) -> Option<usize> {
        self.entries.iter().find_map(|entry| self.stands::<FOLD>(hay, at, entry))
    }

    #[inline]
    fn bucket(&self, hash: usize) -> &'p [SetEntry] {
        let (start, end) = (self.buckets[hash] as usize, self.buckets[hash + 1] as usize);
        &self.entries[start..end]
    }

    /// End of `entry` if it stands at `at`.
    #[inline]
    fn stands<const FOLD: bool>(&self, hay: &[u8], at: usize, entry: &SetEntry) -> Option<usize> {
        let len = entry.len as usize;
        let text = hay[at..].get(..len)?;
        let literal = &self.bytes[entry.offset as usize..][..len];
        let equal = if FOLD { text.eq_ignore_ascii_case(literal) } else { text == literal };
        equal.then_some(at + len)
    }
}

/// A search by probes.
struct Probing<'a, 'p, const FOLD: bool> {
    set: &'a Set<'p>,
    hay: &'a [u8],
    from: usize,
}

impl<const FOLD: bool> Wide for Probing<'_, '_, FOLD> {
    type Output = Option<(usize, usize)>;

    #[inline(always)]
    fn run(self) -> Self::Output {
        let Probing { set, hay, from } = self;
        let mut rest = from;
        for at in stretches(from, hay.len(), set.ahead) {
            let stretch = &hay[at..at + set.ahead + LANES];
            let mut found = Lanes::all(0);
            for &Probe { at: places, bytes, case } in set.probes {
                let equals = |i: usize| {
                    let text = Lanes::of(stretch, places[i].into());
                    text.map(|b| {
                        let b = if FOLD { b | case[i] } else { b };
                        (b == bytes[i]) as u8
                    })
                };
                found = found.with(equals(0).with(equals(1), |a, b| a & b), |a, b| a | b);
            }
            for lane in found.marked() {
                if let Some(end) = set.any_stands::<FOLD>(hay, at + lane) {
                    return Some((at + lane, end));
                }
            }
            rest = at + LANES;
        }
        (rest..hay.len()).find_map(|at| Some((at, set.any_stands::<FOLD>(hay, at)?)))
    }
}

#[inline]
fn copy_folded<'a, const FOLD: bool>(from: &'a [u8], to: &'a mut [u8; 2]) -> &'a [u8] {
    if !FOLD {
        return from;
    }
    for (t, f) in to.iter_mut().zip(from) {
        *t = f.to_ascii_lowercase();
    }
    &to[..from.len().min(2)]
}
