//! Routers by their number, as each thread finds them without a lock, with what it remembers of their workers.

use std::sync::Arc;

use dashmap::DashMap;
use fastrand::Rng;
use foldhash::fast::RandomState;
use once_cell::sync::Lazy;

use super::{Memory, Router};
use telemetry_common::thread_number::{Numbers, ThreadNumber};
use telemetry_common::threads::{OfThread, Threads};

static ROUTERS: Lazy<DashMap<u64, Arc<Router>, RandomState>> = Lazy::new(DashMap::default);
static THREADS: Threads<RouterCache> = Threads::new();
static NUMBERS: Numbers = Numbers::new();

thread_local! {
    static LOCAL: Local = Local { cache: THREADS.join(), number: NUMBERS.take() };
}

struct Local {
    number: ThreadNumber,
    cache: OfThread<RouterCache>,
}

/// Lets a router decide that was published under this number, with what this thread remembers of it.
/// `None` if there is none. `decide` must not come here itself.
#[inline]
pub fn with_router<R>(
    number: u64,
    decide: impl FnOnce(&Arc<Router>, &mut Memory) -> R,
) -> Option<R> {
    LOCAL.with(|local| {
        local.cache.with(|cache| {
            let (_, router, memory) = cache.get(number, &local.number)?;
            Some(decide(router, memory))
        })
    })
}

/// Makes a router known to [`with_router`], in the place of any other with its number.
pub fn publish(number: u64, router: &Arc<Router>) {
    if ROUTERS.insert(number, Arc::clone(router)).is_some() {
        forget();
    }
}

/// Makes a router unknown to [`with_router`], unless another has its number by now. When it returns, no thread
/// decides by it any more.
pub fn withdraw(number: u64, router: &Arc<Router>) {
    ROUTERS.remove_if(&number, |_, known| Arc::ptr_eq(known, router));
    forget();
}

/// Makes all threads forget what they remember of routers and their workers, which threads that decide
/// nothing any more would keep.
pub fn forget() {
    THREADS.take_all();
}

/// Routers by their number, with what was remembered of their workers. A VM has few.
#[derive(Default)]
struct RouterCache {
    entries: Vec<(u64, Arc<Router>, Memory)>,
}

impl RouterCache {
    const ENTRIES: usize = 16;

    #[inline]
    fn get(
        &mut self,
        number: u64,
        thread: &ThreadNumber,
    ) -> Option<&mut (u64, Arc<Router>, Memory)> {
        let at = match self.entries.iter().position(|(cached, ..)| *cached == number) {
            Some(at) => at,
            None => self.fetch(number, thread)?,
        };
        Some(&mut self.entries[at])
    }

    #[cold]
    fn fetch(&mut self, number: u64, thread: &ThreadNumber) -> Option<usize> {
        let router = Arc::clone(&*ROUTERS.get(&number)?);
        self.entries.truncate(Self::ENTRIES - 1);
        self.entries.push((number, router, Memory::new(Rng::new(), thread.get())));
        Some(self.entries.len() - 1)
    }
}
