//! A value that its owning thread uses all the time and another thread now and then.

#[cfg(loom)]
use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, Ordering},
    thread::yield_now,
};
#[cfg(not(loom))]
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread::yield_now,
};

#[cfg(not(loom))]
struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[inline]
    fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// Mutual exclusion for critical sections of nanoseconds with next to no contention: one atomic
/// instruction to enter and a plain store to leave, half of what a mutex costs.
///
/// Not re-entrant: a section that enters the same value again never returns.
pub struct Exclusive<T> {
    busy: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `with` hands out the value to one thread at a time (see there), which is all that
// sharing needs when the value itself may move between threads.
unsafe impl<T: Send> Sync for Exclusive<T> {}

impl<T> Exclusive<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self { busy: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Runs `section` with exclusive access. A panic in it leaves the value as it then was.
    #[inline]
    pub fn with<R>(&self, section: impl FnOnce(&mut T) -> R) -> R {
        loop {
            if let Some(entered) = self.enter() {
                return self.run(entered, section);
            }
            yield_now();
        }
    }

    #[inline]
    fn enter(&self) -> Option<Leave<'_>> {
        // Acquire pairs with the Release in `Leave`: this section sees all of the one before.
        let entered = self.busy.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        entered.is_ok().then(|| Leave(&self.busy))
    }

    #[inline]
    fn run<R>(&self, _entered: Leave<'_>, section: impl FnOnce(&mut T) -> R) -> R {
        self.value.with_mut(|value| {
            // SAFETY: whoever reads `false` from `busy` has set it in the same instruction and has
            // got the only `Leave`; nobody else gets one until that has been dropped, which happens
            // at the end of this function. So this is the only reference.
            section(unsafe { &mut *value })
        })
    }
}

/// The right to be in a section.
struct Leave<'a>(&'a AtomicBool);

impl Drop for Leave<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::{sync::Arc, thread};

    /// Loom visits every interleaving and reports a data race if two sections overlap. Each thread
    /// tries once: a loop that waits would be endless in the interleaving where nobody else runs.
    #[test]
    fn sections_never_overlap_and_see_each_other() {
        fn count(counter: &Exclusive<u32>) -> u32 {
            counter.enter().map_or(0, |entered| {
                counter.run(entered, |value| *value += 1);
                1
            })
        }

        loom::model(|| {
            let counter = Arc::new(Exclusive::new(0));
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let counter = Arc::clone(&counter);
                    thread::spawn(move || count(&counter))
                })
                .collect();
            let mine = count(&counter);
            let others: u32 =
                threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
            counter.with(|value| assert_eq!(*value, mine + others));
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_panic_inside_frees_the_value() {
        let value = Exclusive::new(1);
        let attempt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            value.with(|inner| {
                *inner = 2;
                panic!("inside");
            });
        }));
        assert!(attempt.is_err());
        assert_eq!(value.with(|inner| *inner), 2);
    }
}
