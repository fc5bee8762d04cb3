//! Numbers of recording threads.
//!
//! A thread that records holds a number for as long as it lives. Numbers below
//! [`exclusive_lanes`] give their holder a lane of its own in every series.
//! On the BEAM the recording threads are the schedulers, whose number is known when the library is
//! loaded.
//!
//! A number goes back to the pool when its thread ends. The pool's mutex orders the old holder's
//! stores before the new holder's loads.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Mutex;

use once_cell::sync::OnceCell;

use crate::lock::lock;

static EXCLUSIVE: OnceCell<usize> = OnceCell::new();
static RECORDING: Numbers = Numbers::new();

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

/// Numbers of threads that do the same. Those that record have others than those that do something else, so that
/// nobody takes a lane who never records.
#[derive(Debug, Default)]
pub struct Numbers(Mutex<Free>);

#[derive(Debug, Default)]
struct Free {
    given_back: BinaryHeap<Reverse<usize>>,
    next: usize,
}

impl Numbers {
    /// None is held.
    pub const fn new() -> Self {
        Self(Mutex::new(Free { given_back: BinaryHeap::new(), next: 0 }))
    }

    /// Takes the lowest free number.
    pub fn take(&'static self) -> ThreadNumber {
        let mut free = lock(&self.0);
        let number = match free.given_back.pop() {
            Some(Reverse(number)) => number,
            None => {
                free.next += 1;
                free.next - 1
            }
        };
        ThreadNumber { number, numbers: self }
    }
}

/// The number of the thread that holds it.
#[derive(Debug)]
pub struct ThreadNumber {
    number: usize,
    numbers: &'static Numbers,
}

impl ThreadNumber {
    /// Takes the lowest number that no thread which records holds.
    pub fn take() -> Self {
        RECORDING.take()
    }

    /// The number.
    #[inline]
    pub fn get(&self) -> usize {
        self.number
    }
}

impl Drop for ThreadNumber {
    fn drop(&mut self) {
        lock(&self.numbers.0).given_back.push(Reverse(self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_held_by_one_thread_at_a_time() {
        let held: Vec<_> = (0..50).map(|_| ThreadNumber::take()).collect();
        let mut numbers: Vec<_> = held.iter().map(ThreadNumber::get).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
    }
}
