//! Reading ahead: asking for memory before it is needed.
//!
//! What is spread over the heap comes from main memory at a tenth of a microsecond a line when it is
//! read one after the other, and several lines in the same time when they are asked for at once.

use std::mem::size_of_val;

const LINE_BYTES: usize = 64;

/// Asks for the cache line that a value begins in. Does nothing where the processor cannot be told.
#[inline]
pub(crate) fn line<T: ?Sized>(value: &T) {
    let address = std::ptr::from_ref(value).cast::<i8>();
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
pub(crate) fn all<T: ?Sized>(value: &T) {
    let begin = std::ptr::from_ref(value).cast::<u8>();
    for offset in (0..size_of_val(value)).step_by(LINE_BYTES) {
        // SAFETY: the offset is below the size of the value.
        line(unsafe { &*begin.add(offset) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
