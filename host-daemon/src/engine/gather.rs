//! Many pieces for one file (clause O10), those that follow each other in it by one system call.

/// Bytes of memory, and where in the file they go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) at: *mut u8,
    pub(crate) len: usize,
    pub(crate) offset: u64,
}

/// Pieces in the order in which they are to be written.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    pieces: Vec<Piece>,
    /// The first that has not been written to its end.
    next: usize,
    /// What the system call under way was given: the kernel may read it until that ends.
    call: Vec<libc::iovec>,
}

impl Gather {
    pub(crate) fn with_capacity(pieces: usize) -> Gather {
        Gather { pieces: Vec::with_capacity(pieces), ..Gather::default() }
    }

    /// Adds a piece of at least one byte.
    pub(crate) fn push(&mut self, piece: Piece) {
        self.pieces.push(piece);
    }

    /// The next system call: as many pieces as follow each other in the file, at most `limit` bytes,
    /// and the offset of the first. There are at most `RUNS_MAX` pieces, fewer than the kernel takes.
    pub(crate) fn call(&mut self, mut limit: usize) -> (&[libc::iovec], u64) {
        self.call.clear();
        let rest = &self.pieces[self.next..];
        let offset = rest.first().map_or(0, |first| first.offset);
        let mut end = offset;
        for piece in rest {
            if piece.offset != end || limit == 0 {
                break;
            }
            let len = piece.len.min(limit);
            self.call.push(libc::iovec { iov_base: piece.at.cast(), iov_len: len });
            // V7: offsets and lengths stay within an i64.
            end += len as u64;
            limit -= len;
        }
        (&self.call, offset)
    }

    /// The first `n` bytes of what is left have been written.
    pub(crate) fn advance(&mut self, mut n: usize) {
        while n > 0 {
            let Some(piece) = self.pieces.get_mut(self.next) else { return };
            let step = n.min(piece.len);
            // SAFETY: at most one past the end of the piece.
            piece.at = unsafe { piece.at.add(step) };
            piece.len -= step;
            piece.offset += step as u64;
            n -= step;
            if piece.len == 0 {
                self.next += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(runs: &[(u64, usize)], memory: &mut [u8]) -> Gather {
        let mut gather = Gather::with_capacity(runs.len());
        let mut at = memory.as_mut_ptr();
        for (offset, len) in runs {
            gather.push(Piece { at, len: *len, offset: *offset });
            // SAFETY: the tests have memory for all of them.
            at = unsafe { at.add(*len) };
        }
        gather
    }

    fn next(gather: &mut Gather, limit: usize) -> (Vec<usize>, u64) {
        let (call, offset) = gather.call(limit);
        (call.iter().map(|v| v.iov_len).collect(), offset)
    }

    #[test]
    fn o10_neighbours_in_the_file_go_together_and_nobody_else() {
        let mut memory = [0; 100];
        let all = usize::MAX;
        let mut g = gather(&[(10, 5), (15, 5), (20, 1), (22, 4), (10, 5), (15, 2)], &mut memory);
        assert_eq!(next(&mut g, all), (vec![5, 5, 1], 10));
        g.advance(11);
        assert_eq!(next(&mut g, all), (vec![4], 22));
        g.advance(4);
        assert_eq!(next(&mut g, all), (vec![5, 2], 10), "backwards, in the order of the table");
        g.advance(7);
        assert_eq!(next(&mut g, all), (vec![], 0));
    }

    #[test]
    fn o10_a_short_write_goes_on_where_it_stopped() {
        let mut memory = [0; 100];
        let base = memory.as_mut_ptr();
        let mut g = gather(&[(10, 5), (15, 5), (40, 3)], &mut memory);
        assert_eq!(next(&mut g, 7), (vec![5, 2], 10));
        g.advance(7);
        let (call, offset) = g.call(usize::MAX);
        assert_eq!((call.len(), call[0].iov_len, offset), (1, 3, 17));
        assert_eq!(call[0].iov_base as usize - base as usize, 7);
        g.advance(3);
        assert_eq!(next(&mut g, 2), (vec![2], 40));
    }
}
