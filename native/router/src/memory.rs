//! What a thread remembers between its decisions.

use std::sync::Arc;

use fastrand::Rng;

use super::command::{Command, Stripe};
use super::pool::{Generation, Members, Pool};
use telemetry_common::label;

/// How many are drawn for every decision.
const DRAWN: usize = 2;

/// What a thread remembers of its last decisions by a router: the workers and commands that there
/// are, which of the workers were best, and which are to be looked at next.
///
/// Decisions are better the more of them share a memory. Any will do, an empty one too: what is
/// remembered of another router or of an older list of workers is forgotten.
#[derive(Debug, Default)]
pub struct Memory {
    pub(crate) view: View,
    pub(crate) looks: Looks,
}

impl Memory {
    /// An empty one. No two that decide at once may have the same number below 4, by which threads have
    /// cells of their own to count in: some of their decisions would be missing in what is explained.
    pub fn new(rng: Rng, thread: usize) -> Self {
        let mut memory = Self::default();
        memory.looks.rng = rng;
        memory.view.lane = Stripe::of(thread);
        memory
    }

    /// Makes sure that the list is the router's newest.
    #[inline]
    pub(crate) fn refresh(&mut self, pool: &Pool) {
        if self.view.generation != pool.generation() {
            self.replace(pool);
        }
    }

    #[cold]
    fn replace(&mut self, pool: &Pool) {
        // In this order: a list that is newer than its number is loaded once more next time.
        self.view.generation = pool.generation();
        self.view.members = pool.members().clone();
        self.view.commands = vec![None; COMMANDS].into();
        self.looks.kept = None;
        self.looks.last_census = None;
        self.looks.draw(&self.view.members, usize::MAX);
    }
}

/// The workers and commands that there are.
#[derive(Debug, Default)]
pub(crate) struct View {
    generation: Generation,
    pub(crate) members: Arc<Members>,
    pub(crate) lane: Stripe,
    commands: Box<[Option<Named>]>,
}

type Named = (Arc<str>, Arc<Command>);

/// How many commands a thread finds without a lock and a hash, if no two of them are in one place.
const COMMANDS: usize = 256;

impl View {
    /// A command by its name, which is added where there is room. Gives the list beside it.
    #[inline]
    pub(crate) fn command(
        &mut self,
        name: &[u8],
        pool: &Pool,
    ) -> (&Members, Option<&Arc<Command>>) {
        let name = label::cut(name);
        let at = place(name) % COMMANDS;
        let known = self.commands.get(at).and_then(Option::as_ref);
        if !known.is_some_and(|(known, _)| label::equal(known.as_bytes(), name)) {
            self.fetch(name, pool, at);
        }
        let known = self.commands.get(at).and_then(Option::as_ref);
        (&self.members, known.map(|(_, command)| command))
    }

    #[cold]
    fn fetch(&mut self, name: &[u8], pool: &Pool, at: usize) {
        let normal = label::normalise(name);
        let known = self.members.commands.get_key_value(&*normal);
        let found = match known {
            Some((name, command)) => Some((Arc::clone(name), Arc::clone(command))),
            None => pool.add_command(&normal).map(|command| (normal.as_ref().into(), command)),
        };
        if let Some(place) = self.commands.get_mut(at) {
            *place = found;
        }
    }
}

/// Names that differ in length, in the first eight or in the last eight bytes are apart in general.
#[inline]
fn place(name: &[u8]) -> usize {
    let (first, last) = match (name.first_chunk(), name.last_chunk()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => (name.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0),
    };
    let word = first ^ last.rotate_left(23) ^ name.len() as u64;
    (word.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize
}

/// Which workers to look at.
#[derive(Debug)]
pub(crate) struct Looks {
    pub(crate) rng: Rng,
    /// The best of those that did not get the last requests, by its place in the list.
    pub(crate) kept: Option<u32>,
    /// Drawn in advance, so that they are on their way from memory meanwhile.
    drawn: [u32; DRAWN],
    /// Out of 65,536, for whether to explore.
    pub(crate) chance: u32,
    /// Whether most workers were ejected when they were last counted.
    pub(crate) last_census: Option<Census>,
}

/// Whether most workers are ejected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Census {
    /// How many ejections there had been.
    pub(crate) epoch: u64,
    pub(crate) until_ns: u64,
    pub(crate) most_are_ejected: bool,
}

impl Default for Looks {
    fn default() -> Self {
        Self { rng: Rng::with_seed(0), kept: None, drawn: [0; DRAWN], chance: 0, last_census: None }
    }
}

impl Looks {
    /// Draws those that the next decision looks at, and asks for the numbers of those that it is sure to
    /// look at. Of a list that is looked at in turn, neighbours.
    #[inline]
    pub(crate) fn draw(&mut self, members: &Members, in_turn_up_to: usize) {
        let workers = &members.workers;
        let count = workers.len();
        if count == 0 {
            return;
        }
        let ([first, second], chance) = drawn_from(self.rng.u64(..), count);
        self.chance = chance;
        let second = if count <= in_turn_up_to { next(first, count) } else { second };
        self.drawn = [first, second];
        // Not read back from what was just stored in halves, which would have to wait for both.
        workers[first as usize].prefetch();
        if count <= in_turn_up_to {
            workers[second as usize].prefetch();
        } else {
            workers[first as usize].prefetch_latencies();
        }
    }

    #[inline]
    pub(crate) fn drawn(&self) -> [u32; DRAWN] {
        self.drawn
    }
}

/// Two of so many workers, and a chance out of 65,536: one random number is enough for all, with 24 bits for each
/// worker and 16 for the chance.
#[inline]
fn drawn_from(bits: u64, count: usize) -> ([u32; DRAWN], u32) {
    let scaled = |bits: u64| (((bits & 0xFF_FFFF) * count as u64) >> 24) as u32;
    ([scaled(bits >> 16), scaled(bits >> 40)], (bits & 0xFFFF) as u32)
}

/// The one after another, in turn.
#[inline]
pub(crate) fn next(at: u32, count: usize) -> u32 {
    if at as usize + 1 == count { 0 } else { at + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_and_each_chance_is_drawn_about_equally_often() {
        const COUNT: usize = 1_000;
        const EACH: u32 = 200;
        let mut rng = Rng::with_seed(7);
        let mut often = [[0; COUNT]; 3];
        for _ in 0..EACH * COUNT as u32 {
            let ([first, second], chance) = drawn_from(rng.u64(..), COUNT);
            let thousandth = (chance as usize * COUNT) >> 16;
            for (of, drawn) in [first as usize, second as usize, thousandth].into_iter().enumerate()
            {
                often[of][drawn] += 1;
            }
        }
        // Six standard deviations and more.
        let expected = EACH - 100..EACH + 100;
        assert!(often.iter().flatten().all(|times| expected.contains(times)), "{often:?}");
    }
}
