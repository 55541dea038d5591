//! Where GNU grep notices that a file is binary.
//!
//! It reads a file buffer by buffer and looks for NUL bytes in each: lines of the buffers before
//! the first with a NUL byte are shown as text. Buffers are of 96 KiB unless a line is left over
//! from the one before that does not fit in the page before the buffer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of GNU grep's first buffer.
pub(super) const BUFFER: u64 = 96 << 10;
const PAGE: u64 = 4096;

/// Where text ends in a file whose first NUL byte is at `nul`: the start of the line that is under
/// way where the buffer with it starts.
pub(super) fn text_end(file: &File, nul: u64) -> io::Result<u64> {
    let (mut start, mut line) = (0u64, 0u64);
    let mut capacity = BUFFER / PAGE;
    loop {
        // The buffer's bytes follow what is left of the line before, at the next page.
        let left = start - line;
        let lead = (left + 1).div_ceil(PAGE);
        while capacity * PAGE < left + PAGE {
            capacity *= 2;
        }
        let end = start + (capacity + 1 - lead).max(1) * PAGE;
        if nul < end {
            return Ok(line);
        }
        if let Some(last) = last_newline(file, line, end)? {
            line = last + 1;
        }
        start = end;
    }
}

/// The last newline in `from..to`.
fn last_newline(file: &File, from: u64, to: u64) -> io::Result<Option<u64>> {
    let mut block = [0; PAGE as usize];
    let mut end = to;
    while end > from {
        let start = end.saturating_sub(PAGE).max(from);
        let part = &mut block[..(end - start) as usize];
        file.read_exact_at(part, start)?;
        if let Some(i) = part.iter().rposition(|&b| b == b'\n') {
            return Ok(Some(start + i as u64));
        }
        end = start;
    }
    Ok(None)
}
