//! Memory moved by a whole group: neighbouring threads take neighbouring 16-byte pieces, so that the
//! requests of a warp become few and wide.

/// The widest access.
type Piece = u128;
const PIECE: usize = size_of::<Piece>();
/// Pieces that a thread loads before it stores the first: while source and destination might
/// overlap for all that the compiler knows, it cannot do that by itself, and a load from the host's
/// memory takes a microsecond.
const AT_ONCE: usize = 4;

/// See [`crate::mem::copy_led`].
pub(crate) const LEADER_COPIES: bool = false;

/// The loops are not inlined, as [`fill`] is not: a call is little beside the memory's latency, while
/// they with their many addresses, put into every caller, cost those the registers of their own work.
/// And they are apart, so that whole pages do not save the registers of odd bytes.
///
/// # Safety
/// As [`crate::mem::copy`].
#[inline]
pub(crate) unsafe fn copy(rank: u32, size: u32, dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the caller's contract; both are aligned to a piece if their addresses are.
    unsafe {
        if (dst.addr() | src.addr() | len).is_multiple_of(PIECE) {
            copy_aligned(rank, size, dst.cast(), src.cast(), len / PIECE);
        } else {
            copy_odd(rank, size, dst, src, len);
        }
    }
}

/// # Safety
/// As [`copy_pieces`].
#[inline(never)]
unsafe fn copy_aligned(rank: u32, size: u32, dst: *mut Piece, src: *const Piece, count: usize) {
    // SAFETY: the caller's contract.
    unsafe { copy_pieces(rank as usize, size as usize, dst, src, count) };
}

/// # Safety
/// As [`crate::mem::copy`].
#[inline(never)]
unsafe fn copy_odd(rank: u32, size: u32, dst: *mut u8, src: *const u8, len: usize) {
    let (rank, size) = (rank as usize, size as usize);
    // Where the two agree modulo a width, both are aligned to it after the same few bytes.
    let skew = dst.addr() ^ src.addr();
    let width = if skew.is_multiple_of(PIECE) {
        PIECE
    } else if skew.is_multiple_of(4) {
        4
    } else {
        1
    };
    let head = (dst.addr().wrapping_neg() % width).min(len);
    let whole = (len - head) / width;
    let tail = head + whole * width;
    // SAFETY: the bytes of [0, head), [head, tail) and [tail, len) once each; within the middle
    // both pointers are aligned to the width, since they agree modulo it.
    unsafe {
        copy_words(rank, size, dst, src, head);
        let (to, from) = (dst.add(head), src.add(head));
        match width {
            PIECE => copy_pieces(rank, size, to.cast(), from.cast(), whole),
            4 => copy_words::<u32>(rank, size, to.cast(), from.cast(), whole),
            _ => copy_words(rank, size, to, from, whole),
        }
        copy_words(rank, size, dst.add(tail), src.add(tail), len - tail);
    }
}

/// # Safety
/// `src` must be readable and `dst` writable for `count` aligned pieces; the two must not overlap.
#[inline(always)]
unsafe fn copy_pieces(rank: usize, size: usize, dst: *mut Piece, src: *const Piece, count: usize) {
    let mut i = rank;
    // SAFETY: each index is below `count`.
    unsafe {
        while i + (AT_ONCE - 1) * size < count {
            let pieces: [Piece; AT_ONCE] = core::array::from_fn(|k| src.add(i + k * size).read());
            for (k, piece) in pieces.into_iter().enumerate() {
                dst.add(i + k * size).write(piece);
            }
            i += AT_ONCE * size;
        }
        copy_words(i, size, dst, src, count);
    }
}

/// # Safety
/// `src` must be readable and `dst` writable for `count` aligned words; the two must not overlap.
#[inline(always)]
unsafe fn copy_words<W: Copy>(first: usize, size: usize, dst: *mut W, src: *const W, count: usize) {
    let mut i = first;
    while i < count {
        // SAFETY: `i` is below `count`.
        unsafe { dst.add(i).write(src.add(i).read()) };
        i += size;
    }
}

/// # Safety
/// As [`crate::mem::fill`].
#[inline(never)]
pub(crate) unsafe fn fill(rank: u32, size: u32, dst: *mut u8, byte: u8, len: usize) {
    let (rank, size) = (rank as usize, size as usize);
    let head = (dst.addr().wrapping_neg() % PIECE).min(len);
    let whole = (len - head) / PIECE;
    let tail = head + whole * PIECE;
    // SAFETY: as in `copy`.
    unsafe {
        fill_words(rank, size, dst, byte, head);
        fill_words(rank, size, dst.add(head).cast(), Piece::from_ne_bytes([byte; PIECE]), whole);
        fill_words(rank, size, dst.add(tail), byte, len - tail);
    }
}

/// # Safety
/// `dst` must be writable for `count` aligned words.
#[inline(always)]
unsafe fn fill_words<W: Copy>(rank: usize, size: usize, dst: *mut W, word: W, count: usize) {
    let mut i = rank;
    while i < count {
        // SAFETY: `i` is below `count`.
        unsafe { dst.add(i).write(word) };
        i += size;
    }
}
