//! The bytes that stand for a call: equal for equal terms, and for no others.
//!
//! Every value is a tag and its contents, with their length in front where it varies, so no value is
//! the beginning of another. The entries of a map come in the order of their bytes, whatever order the VM
//! keeps them in. Values that only compare equal, as 1 and 1.0, have different tags. Atoms are the
//! words by which the VM knows them, which are the same until it ends.
//!
//! Functions have no key: what they close over can be anything, and they change with their code.

use rustler::sys::{ERL_NIF_UINT, ErlNifTerm};
use rustler::types::tuple;
use rustler::{MapIterator, Term, TermType};

use crate::decode;

/// Why a call has no key.
#[derive(Clone, Copy, Debug)]
pub enum NoKey {
    /// It would be longer than keys may be.
    TooLarge,
    /// It is nested more deeply than the stack of a scheduler should be used for.
    TooDeep,
    /// There is a function in it.
    Function,
    /// Method, class or reference is no text.
    NoText,
}

/// How deeply a term may be nested.
const MAX_DEPTH: usize = 64;

const ATOM: u8 = 1;
const INTEGER: u8 = 2;
const FLOAT: u8 = 3;
const BINARY: u8 = 4;
const LIST: u8 = 5;
const LIST_END: u8 = 6;
const IMPROPER_END: u8 = 7;
const TUPLE: u8 = 8;
const MAP: u8 = 9;
/// Integers beyond 64 bits, pids, ports, references and bit strings, as the external term format has
/// them.
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
    writer.term(arguments, 0)
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

/// The word by which the VM knows an atom.
fn word_of(atom: Term<'_>) -> u64 {
    // SAFETY: `ErlNifTerm` is a transparent wrapper of this integer.
    unsafe { std::mem::transmute::<ErlNifTerm, ERL_NIF_UINT>(atom.as_c_arg()) as u64 }
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

    fn term(&mut self, term: Term<'_>, depth: usize) -> Result<(), NoKey> {
        if depth > MAX_DEPTH {
            return Err(NoKey::TooDeep);
        }
        match term.get_type() {
            TermType::Atom => self.word(ATOM, word_of(term)),
            TermType::Binary => match decode::bytes(term) {
                Some(bytes) => self.sized(BINARY, bytes),
                None => self.external(term),
            },
            TermType::Integer => match term.decode::<i64>() {
                Ok(integer) => self.word(INTEGER, integer as u64),
                Err(_) => self.external(term),
            },
            TermType::Float => match term.decode::<f64>() {
                Ok(float) => self.word(FLOAT, float.to_bits()),
                Err(_) => self.external(term),
            },
            TermType::List => self.list(term, depth),
            TermType::Tuple => self.tuple(term, depth),
            TermType::Map => self.map(term, depth),
            TermType::Fun => Err(NoKey::Function),
            _ => self.external(term),
        }
    }

    fn list(&mut self, mut list: Term<'_>, depth: usize) -> Result<(), NoKey> {
        self.put(&[LIST])?;
        loop {
            match list.list_get_cell() {
                Ok((head, tail)) => {
                    self.term(head, depth + 1)?;
                    list = tail;
                }
                Err(_) if list.is_empty_list() => return self.put(&[LIST_END]),
                Err(_) => {
                    self.put(&[IMPROPER_END])?;
                    return self.term(list, depth + 1);
                }
            }
        }
    }

    fn tuple(&mut self, term: Term<'_>, depth: usize) -> Result<(), NoKey> {
        let elements = tuple::get_tuple(term).map_err(|_| NoKey::NoText)?;
        self.word(TUPLE, elements.len() as u64)?;
        elements.into_iter().try_for_each(|element| self.term(element, depth + 1))
    }

    fn map(&mut self, term: Term<'_>, depth: usize) -> Result<(), NoKey> {
        let size = term.map_size().map_err(|_| NoKey::NoText)?;
        self.word(MAP, size as u64)?;
        // Every entry takes two bytes at least: refuses a large map before it is walked.
        if size > self.limit {
            return Err(NoKey::TooLarge);
        }
        let start = self.out.len();
        let mut ends = Vec::with_capacity(size);
        for (key, value) in MapIterator::new(term).ok_or(NoKey::NoText)? {
            self.term(key, depth + 1)?;
            self.term(value, depth + 1)?;
            ends.push(self.out.len());
        }
        self.sort(start, &ends);
        Ok(())
    }

    /// Brings the entries of a map, which end at `ends`, into order.
    fn sort(&mut self, start: usize, ends: &[usize]) {
        let starts = std::iter::once(start).chain(ends.iter().copied());
        let mut entries: Vec<_> = starts.zip(ends).map(|(from, &to)| &self.out[from..to]).collect();
        if entries.is_sorted() {
            return;
        }
        entries.sort_unstable();
        let sorted = entries.concat();
        self.out.truncate(start);
        self.out.extend_from_slice(&sorted);
    }

    fn external(&mut self, term: Term<'_>) -> Result<(), NoKey> {
        let external = term.to_binary();
        self.sized(EXTERNAL, external.as_slice())
    }
}
