//! Which class an instance reference belongs to.
//!
//! `call_method` events carry a reference and no class; `create_instance` carries both. The map
//! remembers as many references as it was told to and forgets the oldest first, a 64th at a time, or
//! 1,000 if that is less.

use crate::lock::lock;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use dashmap::DashMap;
use foldhash::fast::RandomState;

use crate::heap::{self, HeapBytes};

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
    /// One allocation for each class name, however many references share it, and how many do.
    class_names: HashMap<Arc<str>, usize, RandomState>,
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
        let mut order = lock(&self.order);
        let class = order.class_name(class);
        let reference: Arc<str> = reference.into();
        if let Some(before) = self.classes.insert(Arc::clone(&reference), class) {
            order.release_class_name(&before);
            // Release pairs with the Acquire in `epoch`: who sees the new epoch sees the new class.
            self.epoch.fetch_add(1, Ordering::Release);
            return;
        }
        order.text_bytes += reference.heap_bytes();
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
                order.text_bytes -= oldest.heap_bytes();
                if let Some((_, class)) = self.classes.remove(&oldest) {
                    order.release_class_name(&class);
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
        let order = lock(&self.order);
        let references = order.oldest_first.len();
        heap::sum([
            order.text_bytes,
            heap::entries::<(Arc<str>, Arc<str>)>(references),
            heap::entries::<Arc<str>>(references),
            heap::entries::<(Arc<str>, usize)>(order.class_names.len()),
        ])
    }
}

impl Order {
    /// The shared text of a class name, for one more reference.
    fn class_name(&mut self, class: &str) -> Arc<str> {
        if let Some((name, _)) = self.class_names.get_key_value(class) {
            let name = Arc::clone(name);
            *self.class_names.entry(Arc::clone(&name)).or_default() += 1;
            return name;
        }
        let name: Arc<str> = class.into();
        self.text_bytes += name.heap_bytes();
        self.class_names.insert(Arc::clone(&name), 1);
        name
    }

    /// One reference fewer has a class. They are counted here: whoever reads a class has a copy of its
    /// name for a moment, so copies do not tell.
    fn release_class_name(&mut self, class: &Arc<str>) {
        let Some(references) = self.class_names.get_mut(class) else {
            return;
        };
        *references -= 1;
        if *references == 0 {
            self.class_names.remove(class);
            self.text_bytes -= class.heap_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_reference_is_forgotten_first() {
        let refs = Refs::new(2);
        assert!(refs.is_empty());
        refs.bind("a", "A");
        assert!(!refs.is_empty());
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

    #[test]
    fn a_reference_that_is_bound_again_and_again_takes_what_its_last_class_takes() {
        let (refs, fresh) = (Refs::new(100), Refs::new(100));
        for number in 0..100_000 {
            // As whoever records an event has it meanwhile.
            let read = refs.class_of("ref");
            refs.bind("ref", &format!("Class{number}"));
            refs.bind("other", &format!("Class{}", number / 2));
            drop(read);
        }
        fresh.bind("ref", "Class99999");
        fresh.bind("other", "Class49999");
        assert_eq!(refs.memory_bytes(), fresh.memory_bytes());
        let order = refs.order.lock().expect("not poisoned");
        assert_eq!(order.class_names.len(), 2);
    }

    #[test]
    fn a_class_name_is_shared_for_as_long_as_a_reference_has_it() {
        let refs = Refs::new(2);
        let names = || refs.order.lock().expect("not poisoned").class_names.len();
        refs.bind("a", "A");
        refs.bind("b", "A");
        assert_eq!(names(), 1);
        refs.bind("a", "B");
        assert_eq!(names(), 2);
        refs.bind("b", "B");
        assert_eq!(names(), 1);
        // Two more references than there is room for.
        refs.bind("c", "C");
        refs.bind("d", "C");
        assert_eq!(names(), 1);
    }

    #[test]
    fn memory_of_references_and_of_class_names_is_counted() {
        let refs = Refs::new(2);
        assert_eq!(refs.memory_bytes(), 0);
        ["ref-a", "ref-b"].into_iter().for_each(|reference| refs.bind(reference, "a.b.Class"));
        let reference = size_of::<(Arc<str>, Arc<str>)>() + size_of::<Arc<str>>();
        let class_name = size_of::<(Arc<str>, usize)>();
        // Two counts before one word each, and before two.
        assert_eq!(refs.memory_bytes(), 2 * (reference + 24) + class_name + 32);
    }
}
