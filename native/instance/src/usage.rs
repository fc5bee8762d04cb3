//! What is used and how often: classes, methods, tools and variables.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};
use telemetry_common::lock::lock;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use telemetry_common::heap;
use telemetry_common::label::MAX_LABEL_BYTES;
use telemetry_common::space_saving::{Entry, Kept, SpaceSaving};
use telemetry_recording::family::UsageKind;

/// A name, no longer than one that an event has: a label, or two with a dot between them.
fn cut(kind: UsageKind, name: &str) -> Cow<'_, str> {
    let limit = match kind {
        UsageKind::Method => 2 * MAX_LABEL_BYTES + 1,
        UsageKind::Class | UsageKind::Tool | UsageKind::Variable => MAX_LABEL_BYTES,
    };
    if name.len() <= limit {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name[..name.floor_char_boundary(limit)].to_owned())
}

/// One of something for each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByKind<T> {
    /// Of the classes.
    pub classes: T,
    /// Of the methods.
    pub methods: T,
    /// Of the tools.
    pub tools: T,
    /// Of the variables.
    pub variables: T,
}

impl<T> ByKind<T> {
    /// Makes one for each kind.
    pub fn new(mut make: impl FnMut(UsageKind) -> T) -> Self {
        Self {
            classes: make(UsageKind::Class),
            methods: make(UsageKind::Method),
            tools: make(UsageKind::Tool),
            variables: make(UsageKind::Variable),
        }
    }

    /// The one of a kind.
    pub fn get(&self, kind: UsageKind) -> &T {
        match kind {
            UsageKind::Class => &self.classes,
            UsageKind::Method => &self.methods,
            UsageKind::Tool => &self.tools,
            UsageKind::Variable => &self.variables,
        }
    }

    /// All four, in the order of [`UsageKind::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        UsageKind::ALL.into_iter().map(|kind| self.get(kind))
    }

    /// All four, each with its kind.
    pub fn into_kinds(self) -> [(UsageKind, T); 4] {
        [
            (UsageKind::Class, self.classes),
            (UsageKind::Method, self.methods),
            (UsageKind::Tool, self.tools),
            (UsageKind::Variable, self.variables),
        ]
    }
}

/// Why a declaration was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UsageError {
    /// More names than can be kept.
    #[error("{given} {} were declared, at most {allowed} are allowed", kind.plural())]
    TooManyDeclared {
        /// What was declared.
        kind: UsageKind,
        /// How many names were given.
        given: usize,
        /// How many are allowed.
        allowed: usize,
    },
}

/// All counts, for a file.
pub type Snapshot = ByKind<Kept>;

/// How often each name of each kind was used; see [`SpaceSaving`] for how exact that is.
///
/// Every function may be called from any thread. Those that look at all kinds look at one after
/// the other: what is counted meanwhile may be in one and not yet in another.
pub struct Usage {
    capacity: usize,
    tallies: ByKind<Mutex<Tally>>,
}

struct Tally {
    names: SpaceSaving,
    revision: u64,
}

/// What was used how often.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UsageReport {
    /// All uses of all kinds.
    pub total: u64,
    /// The part of the total that was restored.
    pub before: u64,
    /// The part of the total that was not.
    pub since_start: u64,
    /// The same by kind, with names.
    pub kinds: ByKind<KindReport>,
}

/// What was used how often, of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KindReport {
    /// All uses, exactly.
    pub total: u64,
    /// The part of the total that was restored, exactly.
    pub before: u64,
    /// The part of the total that was not, exactly.
    pub since_start: u64,
    /// How many names are known, declared ones included.
    pub names: usize,
    /// Whether the count of every name is exact, because none had to be given up.
    pub exact: bool,
    /// The most by which any count is too high, and that a name which is not known can have had.
    pub error_bound: u64,
    /// The names that were used most, those of equal count by name.
    pub most_used: Vec<Used>,
    /// The declared names that were never used, in order.
    pub never_used: Vec<String>,
    /// The declared names that may have been used or not: they were not since they were declared,
    /// but by then names had been given up, perhaps these. Empty while `exact`.
    pub unsure: Vec<String>,
}

/// A name that was used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Used {
    /// The name.
    pub name: String,
    /// How often it was used, at most.
    pub count: u64,
    /// The part of the count that was restored.
    pub before: u64,
    /// The part of the count that was not.
    pub since_start: u64,
    /// By how much the count can be too high.
    pub error: u64,
    /// When it was first used, in Unix milliseconds, as far as is known: if `error` is not 0, then
    /// perhaps before that.
    pub first_unix_ms: u64,
    /// When it was last used, in Unix milliseconds.
    pub last_unix_ms: u64,
}

impl Usage {
    /// Nothing used yet. Keeps `capacity` names of each kind, and as many declared ones.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        let tally = |_| Mutex::new(Tally { names: SpaceSaving::new(capacity), revision: 0 });
        Self { capacity, tallies: ByKind::new(tally) }
    }

    /// Counts uses of a name.
    ///
    /// ```
    /// use telemetry_recording::family::UsageKind;
    /// use telemetry_instance::usage::Usage;
    ///
    /// let usage = Usage::new(1_000);
    /// usage.declare(UsageKind::Tool, ["search", "browse"])?;
    /// usage.add(UsageKind::Tool, "search", 2, 1_795_500_000_000);
    /// let tools = usage.report(10).kinds.tools;
    /// assert_eq!((&*tools.most_used[0].name, tools.most_used[0].count), ("search", 2));
    /// assert_eq!(tools.never_used, ["browse"]);
    /// # Ok::<_, telemetry_instance::usage::UsageError>(())
    /// ```
    pub fn add(&self, kind: UsageKind, name: &str, count: u64, at_unix_ms: u64) {
        self.tally(kind).change(|names| {
            names.add(name, count, at_unix_ms);
            count > 0
        });
    }

    /// Says which names of a kind exist, so that the report can tell which were never used.
    /// Replaces what was declared of that kind before.
    ///
    /// # Errors
    ///
    /// More names than `capacity`. Nothing changes then.
    pub fn declare<'a>(
        &self,
        kind: UsageKind,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), UsageError> {
        let names: Vec<_> = names.into_iter().map(|name| cut(kind, name)).collect();
        let declared: BTreeSet<_> = names.iter().map(|name| &**name).collect();
        let (given, allowed) = (declared.len(), self.capacity);
        if given > allowed {
            return Err(UsageError::TooManyDeclared { kind, given, allowed });
        }
        self.tally(kind).change(|names| names.declare(&declared));
        Ok(())
    }

    /// What was used, with up to `top` names of each kind.
    pub fn report(&self, top: usize) -> UsageReport {
        let kinds = ByKind::new(|kind| self.report_on(kind, top));
        let sum = |of: fn(&KindReport) -> u64| kinds.iter().map(of).fold(0, u64::saturating_add);
        UsageReport {
            total: sum(|kind| kind.total),
            before: sum(|kind| kind.before),
            since_start: sum(|kind| kind.since_start),
            kinds,
        }
    }

    /// All counts and declarations, the names in order.
    pub fn snapshot(&self) -> Snapshot {
        ByKind::new(|kind| {
            // Recording goes on while this sorts.
            let mut kept = self.tally(kind).names.keep();
            kept.entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            kept
        })
    }

    /// Replaces all counts and declarations by those of a snapshot, as what was before. Names are cut
    /// as those of events are.
    pub fn restore(&self, snapshot: Snapshot) {
        for (kind, mut kept) in snapshot.into_kinds() {
            for entry in &mut kept.entries {
                if let Cow::Owned(name) = cut(kind, &entry.name) {
                    entry.name = name.into();
                }
            }
            self.tally(kind).change(|names| {
                names.restore(kept);
                true
            });
        }
    }

    /// Changes with every change. A snapshot has all that was changed by the revision read
    /// before it was taken.
    pub fn revision(&self) -> u64 {
        UsageKind::ALL.into_iter().map(|kind| self.tally(kind).revision).sum()
    }

    /// Forgets all counts. Declared names stay declared.
    pub fn clear(&self) {
        for kind in UsageKind::ALL {
            self.tally(kind).change(|names| {
                names.clear();
                true
            });
        }
    }

    /// Bytes allocated for names and counts.
    pub fn memory_bytes(&self) -> usize {
        heap::sum(UsageKind::ALL.map(|kind| self.tally(kind).names.memory_bytes()))
    }

    fn report_on(&self, kind: UsageKind, top: usize) -> KindReport {
        let tally = self.tally(kind);
        let names = &tally.names;
        let entries: Vec<_> = names.entries().cloned().collect();
        let report = KindReport {
            total: names.total(),
            before: names.before(),
            since_start: names.total() - names.before(),
            names: names.len(),
            exact: names.floor() == 0,
            error_bound: names.floor(),
            most_used: Vec::new(),
            never_used: Vec::new(),
            unsure: Vec::new(),
        };
        // Recording goes on while this sorts.
        drop(tally);
        report.with_names(entries, top)
    }

    fn tally(&self, kind: UsageKind) -> MutexGuard<'_, Tally> {
        lock(self.tallies.get(kind))
    }
}

impl Tally {
    /// Does what says whether it changed anything. The revision changes under the same lock: who
    /// has read it finds the change.
    fn change(&mut self, change: impl FnOnce(&mut SpaceSaving) -> bool) {
        if change(&mut self.names) {
            self.revision += 1;
        }
    }
}

impl KindReport {
    fn with_names(mut self, entries: Vec<Entry>, top: usize) -> Self {
        let (mut used, unused): (Vec<_>, Vec<_>) = entries.into_iter().partition(Entry::is_used);
        used.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
        self.most_used = used.into_iter().take(top).map(Used::from).collect();
        let (never, unsure): (Vec<_>, Vec<_>) =
            unused.into_iter().partition(|entry| entry.count == 0);
        self.never_used = sorted_names(never);
        self.unsure = sorted_names(unsure);
        self
    }
}

fn sorted_names(entries: Vec<Entry>) -> Vec<String> {
    let mut names: Vec<_> = entries.iter().map(|entry| entry.name.to_string()).collect();
    names.sort_unstable();
    names
}

impl From<Entry> for Used {
    fn from(entry: Entry) -> Self {
        Self {
            name: entry.name.to_string(),
            count: entry.count,
            before: entry.before,
            since_start: entry.since_start(),
            error: entry.error,
            first_unix_ms: entry.first_unix_ms,
            last_unix_ms: entry.last_unix_ms,
        }
    }
}
