//! A pool of numbered things, as bits in device memory: 1 = taken. Zeroed, all are free.

use gpu_rt::atomic::{DeviceAtomicU64, Ordering};

/// Numbers `0..count`, of which each can be taken by one owner at a time.
#[derive(Clone, Copy)]
pub struct Bitmap<'a> {
    words: &'a [DeviceAtomicU64],
    count: u32,
}

impl<'a> Bitmap<'a> {
    /// Words needed for `count` numbers.
    pub const fn words(count: u32) -> usize {
        count.div_ceil(64) as usize
    }

    /// The pool whose bits these words are: as many as [`Bitmap::words`] says.
    pub fn new(words: &'a [DeviceAtomicU64], count: u32) -> Self {
        Bitmap { words, count }
    }

    /// Takes a free number, looking first near `hint`; `None` if all are taken.
    pub fn claim(&self, hint: u32) -> Option<u32> {
        let len = self.words.len() as u32;
        let first = hint % len;
        for i in 0..len {
            let index = if first + i < len { first + i } else { first + i - len };
            let word = &self.words[index as usize];
            // Bits past the count look taken.
            let valid = self.count - index * 64;
            let usable = if valid >= 64 { !0 } else { (1u64 << valid) - 1 };
            loop {
                let free = !word.load(Ordering::Relaxed) & usable;
                if free == 0 {
                    break;
                }
                let bit = free & free.wrapping_neg();
                // Acquire: pairs with the release in `release`, so that what the last owner did
                // with the thing happened before.
                if word.fetch_or(bit, Ordering::Acquire) & bit == 0 {
                    return Some(index * 64 + bit.trailing_zeros());
                }
            }
        }
        None
    }

    /// Gives a number back.
    pub fn release(&self, number: u32) {
        let bit = 1u64 << (number % 64);
        // Release: pairs with the acquire in `claim`.
        self.words[number as usize / 64].fetch_and(!bit, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn hands_out_each_number_once() {
        for count in [1, 63, 64, 65, 200] {
            let words: [DeviceAtomicU64; 4] = core::array::from_fn(|_| DeviceAtomicU64::new(0));
            let bitmap = Bitmap::new(&words[..Bitmap::words(count)], count);
            let mut seen = [false; 200];
            for hint in 0..count {
                let n = bitmap.claim(hint * 7).unwrap();
                assert!(n < count && !core::mem::replace(&mut seen[n as usize], true));
            }
            assert_eq!(bitmap.claim(0), None);
            bitmap.release(count - 1);
            assert_eq!(bitmap.claim(0), Some(count - 1));
        }
    }
}
