//! The bytes that stand for a call: equal for equal terms, and for no others.
//!
//! Every value is a tag and its contents, with their length in front where it varies, so no value is
//! the beginning of another. The entries of a map come in the order of their bytes, whatever order the VM
//! keeps them in. Values that only compare equal, as 1 and 1.0, have different tags. Atoms are the
//! words by which the VM knows them, which are the same until it ends.
//!
//! Functions have no key: what they close over can be anything, and they change with their code. Neither
//! have bit strings, of which the VM does not say how long they are without copying them.
//!
//! Keys are written on normal schedulers, so everything is refused before its size costs time.

use rustler::{MapIterator, Term, TermType};

use crate::decode::{self, Depth};
use crate::raw;

/// Why a call has no key.
#[derive(Clone, Copy, Debug)]
pub enum NoKey {
    /// It would be longer than keys may be.
    TooLarge,
    /// It is nested more deeply than the stack of a scheduler should be used for.
    TooDeep,
    /// There is a function in it.
    Function,
    /// There is a bit string in it that is no binary.
    BitString,
    /// Method, class or reference is no text.
    NoText,
}

/// The VM keeps maps of up to so many entries in the order of their keys.
const SMALL_MAP: usize = 32;

const ATOM: u8 = 1;
const INTEGER: u8 = 2;
const FLOAT: u8 = 3;
const BINARY: u8 = 4;
const LIST: u8 = 5;
const LIST_END: u8 = 6;
const IMPROPER_END: u8 = 7;
const TUPLE: u8 = 8;
const MAP: u8 = 9;
/// Integers beyond 64 bits, pids, ports and references, as the external term format has them.
const EXTERNAL: u8 = 10;

/// Writes the key of a call. When it is refused, what has been written has no meaning.
pub fn write(
    method: &[u8],
    class: Option<&[u8]>,
    reference: Option<&[u8]>,
    arguments: Term<'_>,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), NoKey> {
    let mut writer = Writer { limit, out };
    writer.text(Some(method))?;
    writer.text(class)?;
    writer.text(reference)?;
    writer.term(arguments, Depth::TOP)
}

/// The bytes of a text, an atom or an integer; none for `nil`.
pub fn text<'a>(term: Term<'a>) -> Result<Option<&'a [u8]>, NoKey> {
    if decode::absent(term.get_env()) == term {
        return Ok(None);
    }
    match decode::bytes(term) {
        Some(bytes) => Ok(Some(bytes)),
        None => decode::other_text(term).map(Some).map_err(|_| NoKey::NoText),
    }
}

struct Writer<'o> {
    limit: usize,
    out: &'o mut Vec<u8>,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), NoKey> {
        if bytes.len() > self.limit.saturating_sub(self.out.len()) {
            return Err(NoKey::TooLarge);
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn word(&mut self, tag: u8, word: u64) -> Result<(), NoKey> {
        let mut bytes = [tag; 9];
        bytes[1..].copy_from_slice(&word.to_le_bytes());
        self.put(&bytes)
    }

    fn sized(&mut self, tag: u8, bytes: &[u8]) -> Result<(), NoKey> {
        self.word(tag, bytes.len() as u64)?;
        self.put(bytes)
    }

    fn text(&mut self, text: Option<&[u8]>) -> Result<(), NoKey> {
        match text {
            Some(text) => self.sized(BINARY, text),
            None => self.put(&[ATOM]),
        }
    }

    fn term(&mut self, term: Term<'_>, depth: Depth) -> Result<(), NoKey> {
        let deeper = || depth.deeper().ok_or(NoKey::TooDeep);
        match term.get_type() {
            TermType::Atom => self.word(ATOM, raw::word(term.as_c_arg())),
            TermType::Binary => match decode::bytes(term) {
                Some(bytes) => self.sized(BINARY, bytes),
                None => Err(NoKey::BitString),
            },
            TermType::Integer => match term.decode::<i64>() {
                Ok(integer) => self.word(INTEGER, integer as u64),
                Err(_) if decode::is_huge(term) => Err(NoKey::TooLarge),
                Err(_) => self.external(term),
            },
            TermType::Float => match term.decode::<f64>() {
                Ok(float) => self.word(FLOAT, float.to_bits()),
                Err(_) => self.external(term),
            },
            TermType::List => self.list(term, deeper()?),
            TermType::Tuple => self.tuple(term, deeper()?),
            TermType::Map => self.map(term, deeper()?),
            TermType::Fun => Err(NoKey::Function),
            _ => self.external(term),
        }
    }

    fn list(&mut self, mut list: Term<'_>, depth: Depth) -> Result<(), NoKey> {
        self.put(&[LIST])?;
        loop {
            match list.list_get_cell() {
                Ok((head, tail)) => {
                    self.term(head, depth)?;
                    list = tail;
                }
                Err(_) if list.is_empty_list() => return self.put(&[LIST_END]),
                Err(_) => {
                    self.put(&[IMPROPER_END])?;
                    return self.term(list, depth);
                }
            }
        }
    }

    fn tuple(&mut self, term: Term<'_>, depth: Depth) -> Result<(), NoKey> {
        let elements = decode::elements(term);
        self.word(TUPLE, elements.len() as u64)?;
        elements.iter().try_for_each(|element| {
            // SAFETY: the elements are terms of the environment that the tuple belongs to.
            self.term(unsafe { Term::new(term.get_env(), *element) }, depth)
        })
    }

    fn map(&mut self, term: Term<'_>, depth: Depth) -> Result<(), NoKey> {
        let size = term.map_size().map_err(|_| NoKey::NoText)?;
        self.word(MAP, size as u64)?;
        // Every entry takes two bytes at least: refuses a large map before it is walked.
        if size > self.limit {
            return Err(NoKey::TooLarge);
        }
        if size > SMALL_MAP {
            return self.entries(term, depth, &mut vec![(0, 0); size]);
        }
        self.entries(term, depth, &mut [(0, 0); SMALL_MAP][..size])
    }

    /// Writes the entries of a map in the order of their bytes, with room for where each of them is.
    fn entries(
        &mut self,
        map: Term<'_>,
        depth: Depth,
        places: &mut [(usize, usize)],
    ) -> Result<(), NoKey> {
        let start = self.out.len();
        let (mut last, mut is_sorted) = ((start, start), true);
        for ((key, value), place) in MapIterator::new(map).ok_or(NoKey::NoText)?.zip(&mut *places) {
            let from = self.out.len();
            self.term(key, depth)?;
            self.term(value, depth)?;
            *place = (from, self.out.len());
            is_sorted = is_sorted && self.out[last.0..last.1] <= self.out[place.0..place.1];
            last = *place;
        }
        if !is_sorted {
            self.sort(start, places);
        }
        Ok(())
    }

    /// Brings what is at `places`, and fills the key from `start` on, into order.
    fn sort(&mut self, start: usize, places: &mut [(usize, usize)]) {
        let end = self.out.len();
        places.sort_unstable_by(|left, right| {
            self.out[left.0..left.1].cmp(&self.out[right.0..right.1])
        });
        for &mut (from, to) in places {
            self.out.extend_from_within(from..to);
        }
        self.out.copy_within(end.., start);
        self.out.truncate(end);
    }

    fn external(&mut self, term: Term<'_>) -> Result<(), NoKey> {
        let external = term.to_binary();
        self.sized(EXTERNAL, external.as_slice())
    }
}
