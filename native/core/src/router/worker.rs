//! A worker: what it has to do, how fast it is, and how well it fares.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

use crossbeam_utils::CachePadded;
use once_cell::race::OnceBox;

use super::command::CommandNumber;
use super::estimate::Latency;
use super::health::Health;
use super::load::Load;
use super::reason::Reason;

/// What every decision reads of a worker, in cache lines of its own: two schedulers that give
/// requests to neighbours do not wait for each other.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Vitals {
    pub(crate) load: Load,
    /// How many times as long as usual its requests take, whatever they are. For commands that it was
    /// never asked for.
    pub(crate) slowness: Latency,
    /// How long requests waited for it before it got them, in nanoseconds.
    pub(crate) queue_wait: Latency,
    pub(crate) health: Health,
    decisions: [AtomicU64; Reason::ALL.len()],
}

/// A worker. Those with the same id at different times are different workers.
#[derive(Debug)]
pub(crate) struct Worker {
    id: Arc<str>,
    is_gone: AtomicBool,
    vitals: CachePadded<Vitals>,
    abandoned: AtomicU64,
    commands: Box<[OnceBox<Block>]>,
}

/// Commands are allocated by neighbours.
const BLOCK: usize = 8;
type Block = [OfCommand; BLOCK];

/// What is known of a worker and a command.
#[derive(Debug, Default)]
pub(crate) struct OfCommand {
    pub(crate) latency: Latency,
    pub(crate) decisions: AtomicU64,
    pub(crate) successes: AtomicU64,
    pub(crate) failures: AtomicU64,
}

impl Worker {
    pub(crate) fn new(id: &str, now_ns: u64, command_limit: usize) -> Self {
        Self {
            id: id.into(),
            is_gone: AtomicBool::new(false),
            vitals: CachePadded::new(Vitals {
                load: Load::default(),
                health: Health::new(now_ns),
                slowness: Latency::default(),
                queue_wait: Latency::default(),
                decisions: Default::default(),
            }),
            abandoned: AtomicU64::new(0),
            commands: (0..command_limit.div_ceil(BLOCK)).map(|_| OnceBox::new()).collect(),
        }
    }

    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    #[inline]
    pub(crate) fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// Whether it has left the pool.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.load(SeqCst)
    }

    pub(crate) fn leave(&self) {
        self.is_gone.store(true, SeqCst);
    }

    /// What is known of a command, if anything.
    #[inline]
    pub(crate) fn command(&self, number: CommandNumber) -> Option<&OfCommand> {
        Some(&self.commands.get(number.0 / BLOCK)?.get()?[number.0 % BLOCK])
    }

    /// Where what is learned of a command goes; `None` beyond the limit of commands.
    #[inline]
    pub(crate) fn command_mut(&self, number: CommandNumber) -> Option<&OfCommand> {
        let block = self.commands.get(number.0 / BLOCK)?;
        Some(&block.get_or_init(Box::default)[number.0 % BLOCK])
    }

    /// Counts a decision for it.
    #[inline]
    pub(crate) fn decided(&self, command: Option<CommandNumber>, reason: Reason) {
        // In one order with `leave` and `take_decisions`: whoever does not see after this that the worker
        // has left has counted before its counts are taken.
        self.vitals.decisions[reason as usize].fetch_add(1, SeqCst);
        if let Some(of_command) = command.and_then(|command| self.command_mut(command)) {
            of_command.decisions.fetch_add(1, Relaxed);
        }
    }

    /// What was counted since it was last taken.
    pub(crate) fn take_decisions(&self, reason: Reason) -> u64 {
        self.vitals.decisions[reason as usize].swap(0, SeqCst)
    }

    pub(crate) fn decisions(&self, reason: Reason) -> u64 {
        self.vitals.decisions[reason as usize].load(Relaxed)
    }

    pub(crate) fn abandon(&self) {
        self.abandoned.fetch_add(1, Relaxed);
    }

    pub(crate) fn abandoned(&self) -> u64 {
        self.abandoned.load(Relaxed)
    }

    /// Forgets what was measured and counted. What is in flight stays.
    pub(crate) fn clear(&self) {
        self.vitals.health.clear();
        self.vitals.slowness.clear();
        self.vitals.queue_wait.clear();
        let commands = self.commands.iter().filter_map(OnceBox::get).flatten();
        let counts = commands.flat_map(|command| {
            command.latency.clear();
            [&command.decisions, &command.successes, &command.failures]
        });
        for count in counts.chain(&self.vitals.decisions).chain([&self.abandoned]) {
            count.store(0, Relaxed);
        }
    }

    /// Bytes that it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let blocks = self.commands.iter().filter(|block| block.get().is_some()).count();
        size_of::<Self>()
            + self.id.len()
            + size_of_val(&*self.commands)
            + blocks * size_of::<Block>()
    }
}

// The numbers that are read for every worker that is compared come first, in one cache line.
const _: () = assert!(size_of::<Vitals>() <= 128);
