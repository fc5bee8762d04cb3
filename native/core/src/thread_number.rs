//! Numbers of recording threads.
//!
//! A thread that records holds a number for as long as it lives. Numbers below
//! [`exclusive_lanes`] give their holder a lane of its own in every series; see [`crate::lane`].
//! On the BEAM the recording threads are the schedulers, whose number is known when the library is
//! loaded.
//!
//! A number goes back to the pool when its thread ends. The pool's mutex orders the old holder's
//! stores before the new holder's loads.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use once_cell::sync::{Lazy, OnceCell};

static EXCLUSIVE: OnceCell<usize> = OnceCell::new();
static NUMBERS: Lazy<Mutex<Numbers>> = Lazy::new(Default::default);

/// How many threads have lanes of their own: what [`set_exclusive_lanes`] said, else one per core.
pub fn exclusive_lanes() -> usize {
    *EXCLUSIVE.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Fixes the number of exclusive lanes before the first recording; later calls change nothing.
///
/// Returns the number in force.
pub fn set_exclusive_lanes(count: usize) -> usize {
    *EXCLUSIVE.get_or_init(|| count.max(1))
}

#[derive(Default)]
struct Numbers {
    free: BinaryHeap<Reverse<usize>>,
    next: usize,
}

fn numbers() -> MutexGuard<'static, Numbers> {
    // Both fields are valid after every statement, so a poisoned lock is still usable.
    NUMBERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of the thread that holds it.
#[derive(Debug)]
pub struct ThreadNumber(usize);

impl ThreadNumber {
    /// Takes the lowest free number.
    pub fn take() -> Self {
        let mut numbers = numbers();
        let number = match numbers.free.pop() {
            Some(Reverse(number)) => number,
            None => {
                numbers.next += 1;
                numbers.next - 1
            }
        };
        Self(number)
    }
}

impl ThreadNumber {
    /// The number.
    #[inline]
    pub fn get(&self) -> usize {
        self.0
    }
}

impl Drop for ThreadNumber {
    fn drop(&mut self) {
        numbers().free.push(Reverse(self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_held_by_one_thread_at_a_time() {
        let held: Vec<_> = (0..50).map(|_| ThreadNumber::take()).collect();
        let mut numbers: Vec<_> = held.iter().map(|number| number.0).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
    }
}
