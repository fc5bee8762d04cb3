//! Which class an instance reference belongs to.
//!
//! `call_method` events carry a reference and no class; `create_instance` carries both. The map
//! remembers as many references as it was told to and forgets the oldest first, a 64th at a time, or
//! 1,000 if that is less.

use std::collections::{HashSet, VecDeque};
use std::mem::size_of;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;
use foldhash::fast::RandomState;

/// How many references are forgotten at once at most: a fraction of a millisecond.
const MOST_FORGOTTEN: usize = 1_000;

/// A bounded map from reference to class.
pub struct Refs {
    limit: usize,
    classes: DashMap<Arc<str>, Arc<str>, RandomState>,
    order: Mutex<Order>,
    /// Counts changes of what is known of a reference, so that copies of the answer can be told
    /// to be old.
    epoch: AtomicU64,
}

#[derive(Default)]
struct Order {
    oldest_first: VecDeque<Arc<str>>,
    /// Bytes of all references and class names, with their counts.
    text_bytes: usize,
    /// One allocation for each class name, however many references share it.
    class_names: HashSet<Arc<str>, RandomState>,
}

impl Refs {
    /// A map for `limit` references; with a limit of 0 it remembers nothing.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            classes: DashMap::with_hasher(RandomState::default()),
            order: Mutex::default(),
            epoch: AtomicU64::new(0),
        }
    }

    /// Remembers the class of a reference; the newest word counts.
    pub fn bind(&self, reference: &str, class: &str) {
        if self.limit == 0 || self.class_of(reference).is_some_and(|known| *known == *class) {
            return;
        }
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let class = order.class_name(class);
        let reference: Arc<str> = reference.into();
        if self.classes.insert(Arc::clone(&reference), class).is_some() {
            // Release pairs with the Acquire in `epoch`: who sees the new epoch sees the new class.
            self.epoch.fetch_add(1, Ordering::Release);
            return;
        }
        order.text_bytes += bytes_of(&reference);
        order.oldest_first.push_back(reference);
        if order.oldest_first.len() > self.limit {
            self.forget_oldest(&mut order);
        }
    }

    /// Forgets the oldest references, a few at a time, since every thread has to look up all
    /// references anew: one that is forgotten now may be bound to another class later.
    fn forget_oldest(&self, order: &mut Order) {
        for _ in 0..=(self.limit / 64).min(MOST_FORGOTTEN) {
            if let Some(oldest) = order.oldest_first.pop_front() {
                order.text_bytes -= bytes_of(&oldest);
                if let Some((_, class)) = self.classes.remove(&oldest) {
                    order.release_class_name(class);
                }
            }
        }
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// The class of a reference, if it is remembered.
    pub fn class_of(&self, reference: &str) -> Option<Arc<str>> {
        self.classes.get(reference).map(|class| Arc::clone(&class))
    }

    /// Changes whenever a known reference gets another class or is forgotten.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// How many references are remembered.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Bytes allocated for references and class names, and for their entries in the maps.
    pub fn memory_bytes(&self) -> usize {
        let order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = size_of::<(Arc<str>, Arc<str>)>() + size_of::<Arc<str>>();
        order.text_bytes + order.oldest_first.len() * entry
    }
}

/// Bytes of a shared text.
fn bytes_of(text: &Arc<str>) -> usize {
    text.len() + 2 * size_of::<usize>()
}

impl Order {
    fn class_name(&mut self, class: &str) -> Arc<str> {
        if let Some(known) = self.class_names.get(class) {
            return Arc::clone(known);
        }
        let name: Arc<str> = class.into();
        self.text_bytes += bytes_of(&name);
        self.class_names.insert(Arc::clone(&name));
        name
    }

    fn release_class_name(&mut self, class: Arc<str>) {
        // Two are left when no reference has the class: the one in the set and this one. A copy
        // that is being read elsewhere only delays the release to the next reference of the class.
        if Arc::strong_count(&class) <= 2 && self.class_names.remove(&class) {
            self.text_bytes -= bytes_of(&class);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_reference_is_forgotten_first() {
        let refs = Refs::new(2);
        refs.bind("a", "A");
        refs.bind("b", "B");
        refs.bind("a", "A");
        refs.bind("c", "C");
        assert_eq!(refs.class_of("a"), None);
        assert_eq!(refs.class_of("b").as_deref(), Some("B"));
        assert_eq!(refs.class_of("c").as_deref(), Some("C"));
        assert_eq!(refs.len(), 2);
    }

    #[test]
    fn another_class_for_a_known_reference_changes_the_epoch() {
        let refs = Refs::new(2);
        refs.bind("a", "A");
        let before = refs.epoch();
        refs.bind("a", "A");
        assert_eq!(refs.epoch(), before);
        refs.bind("a", "B");
        assert_ne!(refs.epoch(), before);
        assert_eq!(refs.class_of("a").as_deref(), Some("B"));
    }

    #[test]
    fn of_many_references_only_some_are_forgotten_at_once() {
        let refs = Refs::new(64 * MOST_FORGOTTEN * 2);
        for number in 0..=64 * MOST_FORGOTTEN * 2 {
            refs.bind(&number.to_string(), "C");
        }
        assert_eq!(refs.len(), 64 * MOST_FORGOTTEN * 2 - MOST_FORGOTTEN);
    }

    #[test]
    fn class_names_without_references_are_released() {
        let refs = Refs::new(10);
        for number in 0..1_000 {
            refs.bind(&format!("ref-{number}"), &format!("Class{number}"));
        }
        let order = refs.order.lock().expect("not poisoned");
        assert_eq!(order.class_names.len(), 10);
    }
}
