//! What was invalidated, and when: in a fixed number of places, whatever is invalidated how often.
//!
//! Time here is a number that every invalidation increments. A run of a function notes the number when
//! it starts, and its result is valid as long as nothing that it belongs to was invalidated at a later
//! number. So a run that started before an invalidation leaves nothing behind, whenever it ends.
//!
//! References, keys and workers share `PLACES` places by hash. Two in one place are invalidated
//! together, which costs a run of a function and never shows a stale result.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering::SeqCst};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

#[cfg(not(loom))]
const PLACES: usize = 4_096;
#[cfg(loom)]
const PLACES: usize = 2;

/// When a run started, as a number of [`Stamps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Started(u64);

/// A place among those of references, keys and workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u16);

/// When something was last invalidated.
pub struct Stamp(AtomicU64);

impl Default for Stamp {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

/// The number of the last invalidation, and for each place that of the last one there.
///
/// An invalidation takes a number, then stamps it; a lookup reads the stamps after it has found an
/// entry. When an invalidation has returned, its stamp is there for whoever looks afterwards, and a
/// run that has noted its number before has a smaller one. Sequentially consistent throughout, so that
/// this needs no further argument; on x86 the loads cost nothing more.
pub struct Stamps {
    last: AtomicU64,
    all: Stamp,
    places: Box<[Stamp]>,
}

impl Default for Stamps {
    fn default() -> Self {
        Self {
            last: AtomicU64::new(0),
            all: Stamp::default(),
            places: (0..PLACES).map(|_| Stamp::default()).collect(),
        }
    }
}

impl Stamps {
    /// Bytes allocated.
    pub const BYTES: usize = PLACES * size_of::<Stamp>();

    /// The time now, for a run that starts.
    pub fn now(&self) -> Started {
        Started(self.last.load(SeqCst))
    }

    /// The time that a caller has kept as a number; not later than now.
    pub fn at(&self, number: u64) -> Started {
        Started(number.min(self.last.load(SeqCst)))
    }

    /// The place of something with this hash.
    pub fn place(hash: u64) -> Place {
        Place((hash % PLACES as u64) as u16)
    }

    /// Invalidates everything.
    pub fn invalidate_all(&self) {
        self.invalidate(&self.all);
    }

    /// Invalidates what has this place.
    pub fn invalidate_place(&self, place: Place) {
        self.invalidate(&self.places[usize::from(place.0)]);
    }

    /// Invalidates what belongs to a stamp that is kept elsewhere.
    pub fn invalidate(&self, stamp: &Stamp) {
        let number = self.last.fetch_add(1, SeqCst) + 1;
        stamp.0.fetch_max(number, SeqCst);
    }

    /// Whether the result of a run is valid that belongs to `stamp` and to these places.
    #[inline]
    pub fn is_valid(&self, started: Started, stamp: &Stamp, places: &[Option<Place>]) -> bool {
        let since = |stamp: &Stamp| started.0 >= stamp.0.load(SeqCst);
        let mut places = places.iter().flatten();
        since(&self.all)
            && since(stamp)
            && places.all(|place| since(&self.places[usize::from(place.0)]))
    }
}

impl Started {
    /// A number for whoever keeps it elsewhere.
    pub fn number(self) -> u64 {
        self.0
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    /// A function reads what another has changed before it invalidates. Once that has returned, no
    /// result is valid that has the old value, whenever the function has ended.
    #[test]
    fn no_stale_result_is_valid_once_an_invalidation_has_returned() {
        loom::model(|| {
            let stamps = Arc::new(Stamps::default());
            let value = Arc::new(AtomicU64::new(0));
            let kept = Arc::new(Mutex::new(None));
            let places = [Some(Stamps::place(1))];
            let run = {
                let (stamps, value) = (Arc::clone(&stamps), Arc::clone(&value));
                let kept = Arc::clone(&kept);
                thread::spawn(move || {
                    let started = stamps.now();
                    let result = value.load(SeqCst);
                    if stamps.is_valid(started, &Stamp::default(), &places) {
                        *kept.lock().expect("no panic") = Some((started, result));
                    }
                })
            };
            let look = || {
                let kept = *kept.lock().expect("no panic");
                let method = Stamp::default();
                let valid = kept.filter(|(at, _)| stamps.is_valid(*at, &method, &places));
                if let Some((_, result)) = valid {
                    assert_eq!(result, 1, "the old value after the invalidation");
                }
            };
            value.store(1, SeqCst);
            stamps.invalidate_place(Stamps::place(1));
            look();
            run.join().expect("no panic");
            look();
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_started_before_an_invalidation_is_not_valid_and_what_started_after_it_is() {
        let stamps = Stamps::default();
        let method = Stamp::default();
        let places = [Some(Stamps::place(1)), None, Some(Stamps::place(2))];
        let valid = |started| stamps.is_valid(started, &method, &places);
        let ways: [&dyn Fn(); 4] = [
            &|| stamps.invalidate_all(),
            &|| stamps.invalidate(&method),
            &|| stamps.invalidate_place(Stamps::place(1)),
            &|| stamps.invalidate_place(Stamps::place(2 + PLACES as u64)),
        ];
        for invalidate in ways {
            let before = stamps.now();
            assert!(valid(before));
            stamps.invalidate_place(Stamps::place(3));
            stamps.invalidate(&Stamp::default());
            assert!(valid(before));
            invalidate();
            assert!(!valid(before));
            assert!(valid(stamps.now()));
        }
    }

    #[test]
    fn a_number_from_elsewhere_is_not_from_the_future() {
        let stamps = Stamps::default();
        let future = stamps.at(u64::MAX);
        stamps.invalidate_all();
        assert!(!stamps.is_valid(future, &Stamp::default(), &[]));
    }
}
