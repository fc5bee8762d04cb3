//! What each thread keeps to itself, and others may take away.

use std::ops::Deref;
use std::sync::{Arc, Mutex};

use crate::exclusive::Exclusive;
use crate::lock::lock;

/// The threads that keep a value of this type.
pub struct Threads<T: 'static>(Mutex<Vec<Arc<Exclusive<T>>>>);

/// The value of a thread, for as long as it lives.
pub struct OfThread<T: 'static> {
    value: Arc<Exclusive<T>>,
    threads: &'static Threads<T>,
}

impl<T: Default> Threads<T> {
    /// No thread.
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// A value for the thread that calls. To be kept in a `thread_local!`.
    pub fn join(&'static self) -> OfThread<T> {
        let value = Arc::new(Exclusive::new(T::default()));
        lock(&self.0).push(Arc::clone(&value));
        OfThread { value, threads: self }
    }

    /// The values of all threads.
    pub fn all(&self) -> Vec<Arc<Exclusive<T>>> {
        lock(&self.0).clone()
    }

    /// Takes all values away, and waits for those that are in use. Not to be called by whoever uses one.
    pub fn take_all(&self) {
        for value in self.all() {
            let taken = value.with(std::mem::take);
            drop(taken);
        }
    }
}

impl<T: Default> Default for Threads<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for OfThread<T> {
    type Target = Exclusive<T>;

    #[inline]
    fn deref(&self) -> &Exclusive<T> {
        &self.value
    }
}

impl<T> Drop for OfThread<T> {
    fn drop(&mut self) {
        lock(&self.threads.0).retain(|value| !Arc::ptr_eq(value, &self.value));
    }
}
