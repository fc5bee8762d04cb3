//! One NIF for every event that feeds metrics of other people's definitions, however many.
//!
//! It is given the event's own maps and takes from them what the plan names, so that Elixir does nothing
//! where keys suffice. What functions have made of the event comes in a tuple.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Mutex;
use telemetry_common::lock::lock;

use once_cell::sync::Lazy;
use rustler::codegen_runtime::{c_char, c_int, inventory};
use rustler::sys::{ErlNifEnv, ErlNifTerm, enif_get_map_value};
use rustler::{Atom, Env, Nif, Term, TermType};
use telemetry_recording::local;
use telemetry_recording::measure::Number;
use telemetry_recording::observation::{
    Given, Key, Observation, ObservationSpec, Observed, Refusal, Tag, TagSource, ValueSource,
};
use telemetry_recording::plan::PlanId;

use crate::decode;
use crate::raw::{self, Arguments};

mod atoms {
    rustler::atoms! { nil, ok, untold, stopped, dropped, raised }
}

/// Makes the keys of a definition known as atoms: an atom is the same word for as long as the VM lives.
pub fn resolve_keys(env: Env<'_>, observation: &mut ObservationSpec) -> Result<(), String> {
    for key in observation.keys_mut() {
        let atom = Atom::from_str(env, &key.name).map_err(|_| format!("{} is no key", key.name))?;
        key.number = raw::word(atom.as_c_arg());
    }
    Ok(())
}

/// An event as it came.
struct Event<'a> {
    measurements: Term<'a>,
    metadata: Term<'a>,
    /// What functions have made of it.
    computed: &'a [ErlNifTerm],
    is_final: bool,
}

/// `observe(Plan, Measurements, Metadata[, Computed[, final]])`: says whether it was recorded; never
/// raises. `Computed` is a tuple, of which each element is what a function of a metric returned,
/// `dropped` or `raised`.
#[inline]
fn observe(arguments: Arguments<'_>) -> Atom {
    let (Some(Ok(plan)), Some(measurements), Some(metadata)) =
        (arguments.get(0).map(|plan| plan.decode::<u64>()), arguments.get(1), arguments.get(2))
    else {
        return atoms::stopped();
    };
    let event = Event {
        measurements,
        metadata,
        computed: arguments.get(3).map_or(&[], decode::elements),
        is_final: arguments.get(4).is_some(),
    };
    match local::observe(PlanId::from(plan), &event) {
        Observed::Recorded => atoms::ok(),
        Observed::Untold => atoms::untold(),
        Observed::Stopped => atoms::stopped(),
    }
}

/// The value of a key in a map; `None` where it is not there, or there is no map.
#[inline]
fn fetch<'a>(map: Term<'a>, key: &Key) -> Option<Term<'a>> {
    let env = map.get_env();
    let mut value = ErlNifTerm::default();
    // SAFETY: `resolve_keys` has set the numbers of all keys of a definition, by `word`, to those of
    // atoms. `map` is a term of `env`, an atom is a term of every environment, and the function sets `value`
    // to a term of `env` if it returns something else than zero.
    unsafe {
        let key = raw::from_word(key.number);
        let is_there = enif_get_map_value(env.as_c_arg(), map.as_c_arg(), key, &mut value);
        (is_there != 0).then(|| Term::new(env, value))
    }
}

impl<'a> Event<'a> {
    fn computed(&self, at: usize) -> Option<Term<'a>> {
        let env = self.measurements.get_env();
        // SAFETY: the elements are terms of the environment that the event's maps belong to.
        self.computed.get(at).map(|term| unsafe { Term::new(env, *term) })
    }
}

impl<'a> Observation<'a> for Event<'a> {
    #[inline]
    fn tag(&self, source: &TagSource) -> Tag<'a> {
        let tag = match source {
            TagSource::Metadata(key) => fetch(self.metadata, key),
            TagSource::Computed { at, key } => match self.computed(*at) {
                Some(raised) if atoms::raised() == raised => {
                    return Tag::Refused(Refusal::Raised);
                }
                map => map.and_then(|map| fetch(map, key)),
            },
        };
        match tag {
            None => Tag::Refused(Refusal::MissingTag),
            Some(term) => match decode::bytes(term) {
                Some(text) => Tag::Text(text),
                None => other_tag(term),
            },
        }
    }

    #[inline]
    fn value(&self, source: &ValueSource) -> Given {
        match source {
            ValueSource::One => Given::Number(Number::Integer(1)),
            ValueSource::Measurement(key) => number(fetch(self.measurements, key)),
            ValueSource::Computed(at) => match self.computed(*at) {
                Some(term) if atoms::dropped() == term => Given::Dropped,
                Some(term) if atoms::raised() == term => Given::Refused(Refusal::Raised),
                term => number(term),
            },
        }
    }

    fn is_final(&self) -> bool {
        self.is_final
    }
}

#[inline]
fn number(term: Option<Term<'_>>) -> Given {
    let Some(term) = term else {
        return Given::Refused(Refusal::MissingMeasurement);
    };
    if let Ok(value) = term.decode::<i64>() {
        return Given::Number(Number::Integer(value));
    }
    match term.decode::<f64>() {
        Ok(value) if value.is_finite() => Given::Number(Number::Float(value)),
        _ if atoms::nil() == term => Given::Refused(Refusal::MissingMeasurement),
        _ if term.is_integer() => Given::Refused(Refusal::OversizedMeasurement),
        _ => Given::Refused(Refusal::InvalidMeasurement),
    }
}

/// A tag that is no binary: an atom, of which `nil` is the empty text, or an integer.
fn other_tag(term: Term<'_>) -> Tag<'_> {
    if atoms::nil() == term {
        return Tag::Text(b"");
    }
    if term.is_atom() {
        return match atom_text(term) {
            Some(text) => Tag::Text(text.as_bytes()),
            None => decode::other_text(term).map_or(Tag::Other, Tag::Text),
        };
    }
    if let Ok(Some(text)) = term.decode::<usize>().map(|number| SMALL.get(number)) {
        return Tag::Text(text.as_bytes());
    }
    match term.get_type() {
        TermType::Integer => decode::other_text(term).map_or(Tag::Other, Tag::Text),
        _ => Tag::Other,
    }
}

/// The texts of the integers that stand in tags most, such as those of HTTP status.
static SMALL: Lazy<Vec<String>> =
    Lazy::new(|| (0..1_000).map(|number| number.to_string()).collect());

/// The texts of atoms that have been tags. Neither they nor atoms are ever freed.
static TEXTS: Lazy<Mutex<HashMap<ErlNifTerm, &'static str>>> = Lazy::new(Mutex::default);

/// So many atoms keep their texts.
const MOST_TEXTS: usize = 4_096;

thread_local! {
    /// Those that the thread has met.
    static MET: RefCell<HashMap<ErlNifTerm, &'static str, foldhash::fast::RandomState>> =
        RefCell::default();
}

/// The text of an atom, if there is room to keep it.
fn atom_text(atom: Term<'_>) -> Option<&'static str> {
    MET.with_borrow_mut(|met| {
        if let Some(text) = met.get(&atom.as_c_arg()) {
            return Some(*text);
        }
        let mut texts = lock(&TEXTS);
        let known = texts.get(&atom.as_c_arg()).copied();
        let text = match known {
            Some(text) => text,
            None if texts.len() >= MOST_TEXTS => return None,
            None => {
                let text: &'static str = Box::leak(decode::atom_text(atom)?.into_boxed_str());
                texts.insert(atom.as_c_arg(), text);
                text
            }
        };
        met.insert(atom.as_c_arg(), text);
        Some(text)
    })
}

unsafe extern "C" fn observe_nif(
    env: *mut ErlNifEnv,
    argc: c_int,
    argv: *const ErlNifTerm,
) -> ErlNifTerm {
    // SAFETY: the VM calls.
    unsafe { raw::call(env, argc, argv, |env, arguments| observe(arguments).to_term(env)) }
}

macro_rules! register_observe {
    ($($arity:literal),+) => {
        $(inventory::submit!(Nif {
            name: c"observe".as_ptr() as *const c_char,
            arity: $arity,
            flags: 0,
            raw_func: observe_nif,
        });)+
    };
}

register_observe!(3, 4, 5);
