//! Reading ahead: asking for memory before it is needed.
//!
//! What is spread over the heap comes from main memory at a tenth of a microsecond a line when it is
//! read one after the other, and several lines in the same time when they are asked for at once.

use std::mem::size_of_val;

const LINE_BYTES: usize = 64;

/// Asks for the cache line that a value begins in. Does nothing where the processor cannot be told.
#[inline]
pub fn line<T: ?Sized>(value: &T) {
    line_at(std::ptr::from_ref(value).cast());
}

/// Asks for the cache line of an address. Nothing is read there, so no reference to what is there is needed.
#[inline]
fn line_at(address: *const i8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing into the program and never faults, whatever the address; it
    // is part of SSE, which every x86-64 processor has.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for all cache lines of a value or slice.
#[inline]
pub fn all<T: ?Sized>(value: &T) {
    let begin = std::ptr::from_ref(value).cast::<i8>();
    for offset in (0..size_of_val(value)).step_by(LINE_BYTES) {
        line_at(begin.wrapping_add(offset));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reference to a byte of an atomic would claim that nobody writes there.
    #[test]
    fn what_others_write_to_is_asked_for_without_a_reference_to_it() {
        use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

        let cells: Vec<_> = (0..4 * LINE_BYTES).map(|_| AtomicU8::new(0)).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| cells.iter().for_each(|cell| cell.store(1, Relaxed)));
            all(&cells[..]);
        });
        assert!(cells.iter().all(|cell| cell.load(Relaxed) == 1));
    }

    #[test]
    fn asking_changes_nothing_whatever_is_asked_for() {
        let bytes: Vec<u8> = (0..=255).collect();
        for begin in 0..bytes.len() {
            for end in begin..bytes.len() {
                all(&bytes[begin..end]);
            }
        }
        all::<[u64]>(&[]);
        line(&());
        assert!(bytes.iter().enumerate().all(|(at, byte)| at == usize::from(*byte)));
    }
}
