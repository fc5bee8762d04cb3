//! Call paths: by which emitter a call is counted.
//!
//! A bridge emits events of the calls that it makes, and the pool below it of the executions that carry them. Each call
//! counts once, where it was made. So an execution counts as a call only if no bridge told of the call that it carries,
//! which is decided for each execution on its own:
//!
//! 1. its command is one that a bridge uses as transport, such as SnakeBridge's `snakebridge.call`;
//! 2. the process that emits its events is in a call that a bridge told of, as with streams and with pools that execute
//!    in the process of their caller;
//! 3. it was dispatched for a process that is in such a call. The pool executes in processes of its own, but the one that
//!    dispatches monitors the caller, and a worker executes requests in the order in which it got them.
//!
//! Processes are numbers here: the same number is the same process for as long as that lives.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use telemetry_common::lock::lock;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use foldhash::fast::RandomState;
use serde::Deserialize;

use telemetry_common::heap::{self, HeapBytes};
use telemetry_recording::effect::Path;

/// Most requests of a worker that were dispatched and not executed yet. Workers execute one after the other.
const REQUESTS_OF_A_WORKER: usize = 64;

/// Most processes that are known to be in calls. Those beyond have their executions counted as calls of their own.
const CALLERS: usize = 1 << 20;

/// How long after its start an instance expects to hear of a pool. After that, calls of bridges are followed only once
/// it has.
const EXPECTED_WITHIN_MS: u64 = 10_000;

/// How often processes that ended in a call are looked for.
const SWEEP_INTERVAL_MS: u64 = 10_000;

/// What a bridge does on behalf of a process, for which the pool below may execute something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Operation {
    /// A method is called.
    Call = 1,
    /// An instance is created.
    Create = 2,
    /// A tool is called.
    Tool = 3,
}

/// At which end of an execution an event is emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It starts.
    Begin,
    /// It ends.
    End,
}

/// Which commands are transport.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CallPathSpec {
    /// The commands. One that ends in `*` stands for all that begin so.
    #[serde(default)]
    pub transports: Vec<String>,
    /// How many workers with requests are followed.
    #[serde(default)]
    pub worker_limit: usize,
}

/// Which processes are in calls of a bridge, and which executions carry these.
pub struct CallPaths {
    transports: Box<[Transport]>,
    hasher: RandomState,
    callers: DashMap<u64, Caller, RandomState>,
    caller_count: AtomicUsize,
    requests: Mutex<HashMap<Box<str>, VecDeque<Request>, RandomState>>,
    worker_limit: usize,
    /// Whether calls of bridges are followed: nobody needs it while there is no pool.
    follows: AtomicBool,
    has_pool: AtomicBool,
    bridge_names_workers: AtomicBool,
    swept_ms: AtomicU64,
}

#[derive(Debug)]
struct Transport {
    command: Box<[u8]>,
    /// Whether it stands for all commands that begin so.
    is_prefix: bool,
}

/// A process that is in calls.
#[derive(Clone, Copy, Debug, Default)]
struct Caller {
    /// The operations that it is in, two bits for each, the innermost lowest. Of more than 32 the outermost are lost.
    operations: u64,
    /// Whether the router has learned from an execution how its call went.
    is_completed: bool,
}

/// A request that a worker got.
#[derive(Debug)]
struct Request {
    command: u64,
    caller: Option<u64>,
    is_begun: bool,
}

impl Caller {
    const BITS: u32 = 2;
    const MASK: u64 = 0b11;

    fn enter(&mut self, operation: Operation) {
        self.operations = self.operations << Self::BITS | operation as u64;
    }

    /// Leaves the innermost operation of this kind, and those inside it, whose ends were not told.
    fn leave(&mut self, operation: Operation) {
        let mut rest = self.operations;
        while rest != 0 {
            let innermost = rest & Self::MASK;
            rest >>= Self::BITS;
            if innermost == operation as u64 {
                self.operations = rest;
                return;
            }
        }
    }
}

impl CallPaths {
    /// Knows of no process.
    pub fn new(spec: CallPathSpec) -> Self {
        let transport = |command: String| match command.strip_suffix('*') {
            Some(prefix) => Transport { command: prefix.as_bytes().into(), is_prefix: true },
            None => Transport { command: command.as_bytes().into(), is_prefix: false },
        };
        Self {
            transports: spec.transports.into_iter().map(transport).collect(),
            hasher: RandomState::default(),
            callers: DashMap::with_hasher(RandomState::default()),
            caller_count: AtomicUsize::new(0),
            requests: Mutex::default(),
            worker_limit: spec.worker_limit,
            follows: AtomicBool::new(true),
            has_pool: AtomicBool::new(false),
            bridge_names_workers: AtomicBool::new(false),
            swept_ms: AtomicU64::new(0),
        }
    }

    /// Whether a process's calls are followed now.
    #[inline]
    pub(crate) fn follows(&self) -> bool {
        self.follows.load(Relaxed)
    }

    /// There is a pool: from now on calls of bridges are followed.
    #[inline]
    pub(crate) fn hear_of_pool(&self) {
        if !self.has_pool.load(Relaxed) {
            self.has_pool.store(true, Relaxed);
            self.follows.store(true, Relaxed);
        }
    }

    /// A process starts an operation of a bridge.
    #[cold]
    pub(crate) fn enter(&self, process: u64, operation: Operation) {
        if self.caller_count.load(Relaxed) >= CALLERS {
            return;
        }
        match self.callers.entry(process) {
            Entry::Occupied(mut entry) => entry.get_mut().enter(operation),
            Entry::Vacant(entry) => {
                self.caller_count.fetch_add(1, Relaxed);
                let mut caller = Caller::default();
                caller.enter(operation);
                entry.insert(caller);
            }
        }
    }

    /// A process ends an operation of a bridge. Mostly none is in any, and it is not asked which one this is.
    #[inline]
    pub(crate) fn leave(&self, process: impl FnOnce() -> u64, operation: Operation) {
        if self.has_callers() {
            self.leave_now(process(), operation);
        }
    }

    #[cold]
    fn leave_now(&self, process: u64, operation: Operation) {
        let is_outside = |caller: &mut Caller| {
            caller.leave(operation);
            caller.operations == 0
        };
        if self.callers.get_mut(&process).is_some_and(|mut caller| is_outside(&mut caller))
            && self.callers.remove(&process).is_some()
        {
            self.caller_count.fetch_sub(1, Relaxed);
        }
    }

    /// Whether a process is in an operation of a bridge.
    pub(crate) fn is_inside(&self, process: u64) -> bool {
        self.has_callers() && self.callers.contains_key(&process)
    }

    #[inline]
    fn has_callers(&self) -> bool {
        self.caller_count.load(Relaxed) > 0
    }

    /// A worker gets a request that a process has made.
    pub(crate) fn dispatched(&self, process: u64, worker: &str, command: &[u8]) {
        self.hear_of_pool();
        let caller = Some(process).filter(|process| self.is_inside(*process));
        let request = Request { command: self.hash(command), caller, is_begun: false };
        let mut workers = self.requests();
        let has_room = workers.len() < self.worker_limit;
        if let Some(requests) = workers.get_mut(worker) {
            if requests.len() == REQUESTS_OF_A_WORKER {
                requests.pop_front();
            }
            requests.push_back(request);
        } else if has_room {
            workers.insert(worker.into(), VecDeque::from([request]));
        }
    }

    /// Whose call an execution carries of which `process` emits an event.
    pub(crate) fn of_execution(
        &self,
        process: u64,
        worker: Option<&str>,
        command: &[u8],
        phase: Option<Phase>,
    ) -> Path {
        self.hear_of_pool();
        let request = match (worker, phase) {
            (Some(worker), Some(phase)) => self.request(worker, command, phase),
            _ => None,
        };
        if self.transports.iter().any(|transport| transport.is_of(command)) {
            Path::Transport
        } else if self.is_inside(process) {
            Path::Carried(process)
        } else {
            request.map_or(Path::Direct, Path::Carried)
        }
    }

    /// Who made the request that a worker executes. An attempt that follows another is of the same request.
    fn request(&self, worker: &str, command: &[u8], phase: Phase) -> Option<u64> {
        let command = self.hash(command);
        let mut workers = self.requests();
        let requests = workers.get_mut(worker)?;
        let place = |requests: &VecDeque<Request>, is_begun: bool| {
            let is_it =
                |request: &Request| request.command == command && request.is_begun == is_begun;
            requests.iter().position(is_it)
        };
        if phase == Phase::Begin
            && let Some(next) = place(requests, false)
        {
            // Those before it are done, or were never executed.
            requests.drain(..next);
            let request = requests.front_mut()?;
            request.is_begun = true;
            return request.caller;
        }
        let begun = place(requests, true)?;
        requests.get(begun)?.caller
    }

    /// Whether the router is to learn from an execution on this path how the worker did. It learns it once for each call:
    /// from the bridge where that names workers, since it knows the method.
    pub(crate) fn completes(&self, path: Path) -> bool {
        let Path::Carried(process) = path else {
            return true;
        };
        if self.bridge_names_workers.load(Relaxed) {
            return false;
        }
        if let Some(mut caller) = self.callers.get_mut(&process) {
            caller.is_completed = true;
        }
        true
    }

    /// Whether the router is to learn from the end of a process's call, which names the worker.
    pub(crate) fn call_completes(&self, process: u64) -> bool {
        self.bridge_names_workers.store(true, Relaxed);
        self.callers
            .get_mut(&process)
            .is_none_or(|mut caller| !std::mem::take(&mut caller.is_completed))
    }

    /// Forgets the requests of a worker that has gone.
    pub(crate) fn forget_worker(&self, worker: &str) {
        self.requests().remove(worker);
    }

    /// Does what time brings: forgets processes that ended in a call, and stops following calls while nobody needs it.
    /// `is_alive` says whether a process still lives.
    pub(crate) fn tick(&self, since_start_ms: u64, now_ms: u64, is_alive: impl Fn(u64) -> bool) {
        if since_start_ms >= EXPECTED_WITHIN_MS && !self.has_pool.load(Relaxed) {
            self.follows.store(false, Relaxed);
        }
        if now_ms.saturating_sub(self.swept_ms.load(Relaxed)) >= SWEEP_INTERVAL_MS {
            self.swept_ms.store(now_ms, Relaxed);
            self.callers.retain(|&process, _| {
                let stays = is_alive(process);
                if !stays {
                    self.caller_count.fetch_sub(1, Relaxed);
                }
                stays
            });
        }
    }

    /// Bytes allocated for processes and requests.
    pub fn memory_bytes(&self) -> usize {
        let requests = self.requests();
        heap::sum([
            requests.heap_bytes(),
            heap::sum(requests.keys().map(HeapBytes::heap_bytes)),
            heap::sum(requests.values().map(HeapBytes::heap_bytes)),
            self.callers.heap_bytes(),
        ])
    }

    fn hash(&self, command: &[u8]) -> u64 {
        self.hasher.hash_one(command)
    }

    fn requests(&self) -> MutexGuard<'_, HashMap<Box<str>, VecDeque<Request>, RandomState>> {
        lock(&self.requests)
    }
}

impl Transport {
    fn is_of(&self, command: &[u8]) -> bool {
        if self.is_prefix { command.starts_with(&self.command) } else { *self.command == *command }
    }
}

#[cfg(test)]
mod tests;
