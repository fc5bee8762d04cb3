//! A value that is made when it is first asked for, and may then be in several cells.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicPtr,
    Ordering::{AcqRel, Acquire},
};

/// One word, empty at first and then an `Arc` for as long as the cell lives. Finding the value costs a
/// load, as with `OnceBox`.
#[derive(Debug)]
pub(crate) struct SharedCell<T>(AtomicPtr<T>);

impl<T> Default for SharedCell<T> {
    fn default() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }
}

impl<T: Default> SharedCell<T> {
    /// The value, if there is one.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        // Acquire pairs with the exchange that has stored it: the value was made before.
        let value = self.0.load(Acquire);
        // SAFETY: it is null or of `Arc::into_raw`, and this cell's part of the `Arc` is given up when the
        // cell is dropped and not before, so the value outlives the borrow of the cell.
        unsafe { value.as_ref() }
    }

    /// The value, which is made if there is none.
    pub(crate) fn get_or_add(&self) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let new = Arc::into_raw(Arc::<T>::default()).cast_mut();
        let stored = self.0.compare_exchange(ptr::null_mut(), new, AcqRel, Acquire);
        let value = match stored {
            Ok(_) => new,
            Err(value) => {
                // SAFETY: `new` is of `Arc::into_raw`, just now, and nobody else has it.
                drop(unsafe { Arc::from_raw(new) });
                value
            }
        };
        // SAFETY: not null, and as in `get`.
        unsafe { &*value }
    }

    /// Another cell with the same value, empty if there is none yet.
    pub(crate) fn share(&self) -> Self {
        let Some(value) = self.get() else {
            return Self::default();
        };
        let value = ptr::from_ref(value);
        // SAFETY: it is of `Arc::into_raw`, and this cell has a part of the `Arc`.
        unsafe { Arc::increment_strong_count(value) };
        Self(AtomicPtr::new(value.cast_mut()))
    }
}

impl<T> Drop for SharedCell<T> {
    fn drop(&mut self) {
        let value = *self.0.get_mut();
        if !value.is_null() {
            // SAFETY: it is of `Arc::into_raw`, and this cell's part is given up once, here.
            drop(unsafe { Arc::from_raw(value) });
        }
    }
}

// SAFETY: a cell is an `Option<Arc<T>>` that is set once by an atomic exchange: it gives `&T` to every
// thread that has it, and may drop the `T` on any.
unsafe impl<T: Send + Sync> Send for SharedCell<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for SharedCell<T> {}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::thread;

    use super::*;

    static ALIVE: AtomicUsize = AtomicUsize::new(0);

    #[derive(Debug)]
    struct Value(AtomicUsize);

    impl Default for Value {
        fn default() -> Self {
            ALIVE.fetch_add(1, SeqCst);
            Self(AtomicUsize::new(0))
        }
    }

    impl Drop for Value {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, SeqCst);
        }
    }

    #[test]
    fn a_value_is_made_once_shared_and_dropped_with_its_last_cell_whoever_comes_when() {
        const THREADS: usize = 4;
        for _ in 0..500 {
            let (cell, start) = (SharedCell::<Value>::default(), Barrier::new(THREADS));
            assert!(cell.get().is_none() && cell.share().get().is_none());
            let shared: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            cell.get_or_add().0.fetch_add(1, SeqCst);
                            let shared = cell.share();
                            shared.get_or_add().0.fetch_add(1, SeqCst);
                            shared
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
            });
            assert_eq!(ALIVE.load(SeqCst), 1);
            drop(cell);
            for cell in &shared {
                assert_eq!(cell.get().map(|value| value.0.load(SeqCst)), Some(2 * THREADS));
            }
            drop(shared);
            assert_eq!(ALIVE.load(SeqCst), 0);
        }
    }
}
