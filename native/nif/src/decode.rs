//! Terms into what the core takes.

use std::mem::MaybeUninit;

use rustler::sys::{ErlNifBinary, ErlNifTerm, enif_get_tuple, enif_inspect_binary};
use rustler::{
    Atom, Binary, Decoder, Encoder, Env, Error, LocalPid, NewBinary, NifResult, Term, TermType,
};
use serde_json::{Map, Value};
use telemetry_common::moment::Moment;
use telemetry_recording::field::{Fields, Inputs, Reject};
use telemetry_windows::window::Window;

use crate::raw;

mod atoms {
    rustler::atoms! { nil, true_ = "true", false_ = "false", since_start, last, previous, between }
}

/// `{Ms, UnixMs}`.
pub fn moment(term: Term<'_>) -> NifResult<Moment> {
    let (ms, unix_ms) = term.decode()?;
    Ok(Moment { ms, unix_ms })
}

/// `since_start`, `{last, Ms}`, `{previous, Ms}` or `{between, FromMs, ToMs}`.
pub fn window(term: Term<'_>) -> NifResult<Window> {
    if atoms::since_start() == term {
        return Ok(Window::SinceStart);
    }
    if let Ok((which, from_ms, to_ms)) = term.decode::<(Atom, u64, u64)>() {
        return if which == atoms::between() {
            Ok(Window::Between(from_ms, to_ms))
        } else {
            Err(Error::BadArg)
        };
    }
    let (which, ms): (Atom, u64) = term.decode()?;
    if which == atoms::last() {
        Ok(Window::Last(ms))
    } else if which == atoms::previous() {
        Ok(Window::Previous(ms))
    } else {
        Err(Error::BadArg)
    }
}

/// Stores the positional fields of an event, of which `term` gives one at a time; one that was not
/// passed is `nil`.
#[inline]
pub fn fields<'a>(
    inputs: &Inputs,
    term: impl Fn(usize) -> Term<'a>,
    fields: &mut Fields<'a>,
) -> Result<(), Reject> {
    let nil = atoms::nil();
    for input in &inputs.measurements {
        let term = term(input.at);
        match term.decode::<u64>() {
            Ok(value) => fields.set_number(input.at, value, &input.scale)?,
            Err(_) if nil == term => input.absent?,
            Err(_) if input.float && term.is_float() => {
                let value = term.decode().map_err(|_| Reject::InvalidMeasurement)?;
                fields.set_float(input.at, value, &input.scale)?;
            }
            Err(_) => return Err(no_measurement(term)),
        }
    }
    for input in &inputs.texts {
        if input.unless.is_some_and(|there| fields.is_given(there)) {
            continue;
        }
        let term = term(input.at);
        if nil == term {
            input.absent?;
        } else {
            match bytes(term) {
                Some(text) => fields.set_text(input.at, text),
                None => fields.set_text(input.at, without_elixir(other_text(term)?)),
            }
        }
    }
    let (yes, no) = (atoms::true_(), atoms::false_());
    for input in &inputs.flags {
        let term = term(input.at);
        let flag = if yes == term {
            true
        } else if no == term {
            false
        } else if nil == term {
            input.absent?
        } else {
            return Err(Reject::InvalidMetadata);
        };
        fields.set_flag(input, flag);
    }
    for input in &inputs.choices {
        let term = term(input.at);
        if nil == term {
            return Err(Reject::MissingMetadata);
        }
        // What is no text is none of the words.
        fields.set_choice(input.at, other_text(term).unwrap_or_default(), &input.words);
    }
    for &at in &inputs.processes {
        let term = term(at);
        if term.is_pid() {
            fields.set_process(at, process_number(term));
        }
    }
    Ok(())
}

/// The number of a process of this node: no other living process has it.
#[inline]
pub fn process_number(pid: Term<'_>) -> u64 {
    raw::word(pid.as_c_arg())
}

/// Whether the process of a number still lives.
pub fn is_alive(env: Env<'_>, process: u64) -> bool {
    // SAFETY: the number is the word of a process identifier of this node, which is an immediate term: it refers to no
    // memory, and is the same in every environment.
    let pid = unsafe { Term::new(env, raw::from_word(process)) };
    pid.decode::<LocalPid>().is_ok_and(|pid| pid.is_alive(env))
}

/// The term for a field that was not passed.
pub fn absent(env: Env<'_>) -> Term<'_> {
    atoms::nil().to_term(env)
}

#[cold]
fn no_measurement(term: Term<'_>) -> Reject {
    if !term.is_integer() {
        Reject::InvalidMeasurement
    } else if term < 0.encode(term.get_env()) {
        Reject::NegativeMeasurement
    } else {
        Reject::OversizedMeasurement
    }
}

/// The text of a binary, an atom or an integer.
#[cold]
pub fn other_text(term: Term<'_>) -> Result<&[u8], Reject> {
    let text = match term.get_type() {
        TermType::Binary => return bytes(term).ok_or(INVALID),
        TermType::Atom => atom_text(term).ok_or(INVALID)?,
        TermType::Integer => term.decode::<i64>().map_err(|_| INVALID)?.to_string(),
        _ => return Err(INVALID),
    };
    let text = binary(term.get_env(), text.as_bytes());
    bytes(text.to_term(term.get_env())).ok_or(INVALID)
}

/// The name of a module as Elixir writes it.
fn without_elixir(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"Elixir.").unwrap_or(text)
}

/// The text of a binary, an atom or an integer; `None` for other terms.
#[inline]
pub fn text(term: Term<'_>) -> Option<&[u8]> {
    bytes(term).or_else(|| other_text(term).ok())
}

/// The text of an atom. The NIF functions give those in Latin-1; for others the external term format
/// has it in UTF-8, behind the version, a tag and a length of one or two bytes.
pub fn atom_text(atom: Term<'_>) -> Option<String> {
    const SMALL_ATOM_UTF8: u8 = 119;
    const ATOM_UTF8: u8 = 118;
    atom.atom_to_string().ok().or_else(|| {
        let external = atom.to_binary();
        let text = match external.as_slice() {
            [_version, SMALL_ATOM_UTF8, _length, text @ ..] => text,
            [_version, ATOM_UTF8, _high, _low, text @ ..] => text,
            _ => return None,
        };
        str::from_utf8(text).ok().map(str::to_owned)
    })
}

const INVALID: Reject = Reject::InvalidMetadata;

/// The bytes of a binary for as long as its environment lives.
///
/// `rustler::Binary` says the same, but hands itself on through memory, which costs a tenth of a
/// recording.
#[inline]
pub fn bytes(term: Term<'_>) -> Option<&[u8]> {
    let mut binary = MaybeUninit::<ErlNifBinary>::uninit();
    let (env, raw) = (term.get_env().as_c_arg(), term.as_c_arg());
    // SAFETY: `raw` is a term of `env`, and the function fills in `binary` whenever it returns
    // something else than zero. It then points to memory that the environment keeps until the NIF
    // returns, which the lifetime of the term stands for; nobody writes to it.
    unsafe {
        if enif_inspect_binary(env, raw, binary.as_mut_ptr()) == 0 {
            return None;
        }
        let binary = binary.assume_init_ref();
        Some(std::slice::from_raw_parts(binary.data, binary.size))
    }
}

/// The items of a proper list of at most `MOST`. What `Vec` decodes by panics at the end of an improper one.
pub struct List<T, const MOST: usize = { usize::MAX }>(pub Vec<T>);

impl<'a, T: Decoder<'a>, const MOST: usize> Decoder<'a> for List<T, MOST> {
    fn decode(mut list: Term<'a>) -> NifResult<Self> {
        let mut items = Vec::new();
        while let Ok((head, tail)) = list.list_get_cell() {
            if items.len() == MOST {
                return Err(Error::BadArg);
            }
            items.push(head.decode()?);
            list = tail;
        }
        if list.is_empty_list() { Ok(Self(items)) } else { Err(Error::BadArg) }
    }
}

/// The elements of a tuple where the VM has them; none of what is no tuple.
pub fn elements<'a>(tuple: Term<'a>) -> &'a [ErlNifTerm] {
    let (env, raw) = (tuple.get_env().as_c_arg(), tuple.as_c_arg());
    let (mut arity, mut array) = (0, std::ptr::null());
    // SAFETY: `raw` is a term of `env`. If the function returns something else than zero, `array` has
    // `arity` terms, which live as long as the environment.
    unsafe {
        let is_tuple = enif_get_tuple(env, raw, &mut arity, &mut array);
        if is_tuple == 0 || arity == 0 {
            return &[];
        }
        std::slice::from_raw_parts(array, arity as usize)
    }
}

/// Whether an integer has more than 8,192 bits. To compare it with one that has takes no longer if it is
/// longer, other than to write it.
pub fn is_huge(integer: Term<'_>) -> bool {
    const BYTES: usize = 1_024;
    const VERSION: u8 = 131;
    const LARGE_BIG: u8 = 111;
    let mut external = [0; 7 + BYTES + 1];
    let length = (BYTES + 1) as u32;
    external[..2].copy_from_slice(&[VERSION, LARGE_BIG]);
    external[2..6].copy_from_slice(&length.to_be_bytes());
    external[7 + BYTES] = 1;
    let is_beyond = |sign: u8| {
        external[6] = sign;
        let bound = integer.get_env().binary_to_term(&external).map(|(bound, _)| bound);
        bound.is_none_or(|bound| if sign == 0 { integer >= bound } else { integer <= bound })
    };
    [0, 1].map(is_beyond).contains(&true)
}

/// How far down a term something is. Functions that call themselves for what is in a term count by it, as
/// the stack of a scheduler is short and a term may be nested a million deep.
#[derive(Clone, Copy)]
pub struct Depth(usize);

impl Depth {
    /// How deeply a term may be nested.
    pub const MOST: usize = 64;

    /// The term itself.
    pub const TOP: Self = Self(0);

    /// What is in it, unless that is too deep.
    #[inline]
    pub fn deeper(self) -> Option<Self> {
        (self.0 < Self::MOST).then_some(Self(self.0 + 1))
    }
}

/// A term as the JSON value that serde reads definitions from: maps with atom keys are objects,
/// atoms are strings, `{tag, content}` is an externally tagged enum.
pub fn value(term: Term<'_>) -> Result<Value, String> {
    value_at(term, Depth::TOP)
}

fn value_at(term: Term<'_>, depth: Depth) -> Result<Value, String> {
    let refused = || refusal(term);
    let inner = |content| {
        let too_deep = || format!("a definition may be nested {} deep and is deeper", Depth::MOST);
        value_at(content, depth.deeper().ok_or_else(too_deep)?)
    };
    match term.get_type() {
        TermType::Atom if atoms::nil() == term => Ok(Value::Null),
        TermType::Atom if atoms::true_() == term => Ok(Value::Bool(true)),
        TermType::Atom if atoms::false_() == term => Ok(Value::Bool(false)),
        TermType::Atom => term.atom_to_string().map(Value::String).map_err(|_| refused()),
        TermType::Binary => term.decode().map(Value::String).map_err(|_| refused()),
        TermType::Integer => {
            let positive = term.decode::<u64>().map(Value::from);
            positive.or_else(|_| term.decode::<i64>().map(Value::from)).map_err(|_| refused())
        }
        TermType::Float => term.decode::<f64>().map(Value::from).map_err(|_| refused()),
        TermType::List => {
            let List(items): List<Term> = term.decode().map_err(|_| refused())?;
            items.into_iter().map(inner).collect::<Result<_, _>>().map(Value::Array)
        }
        TermType::Tuple => {
            let (tag, content): (Term, Term) = term.decode().map_err(|_| refused())?;
            let tag = tag.atom_to_string().map_err(|_| refused())?;
            Ok(Value::Object(Map::from_iter([(tag, inner(content)?)])))
        }
        TermType::Map => {
            let entries = rustler::MapIterator::new(term).ok_or_else(refused)?;
            let object = entries.map(|(key, content)| {
                let key = key.atom_to_string().map_err(|_| refused())?;
                Ok((key, inner(content)?))
            });
            object.collect::<Result<Map<_, _>, String>>().map(Value::Object)
        }
        _ => Err(refused()),
    }
}

/// Why a term is no value. What may be of any size is not written out.
fn refusal(term: Term<'_>) -> String {
    let what = match term.get_type() {
        TermType::List => "a list that does not end with []",
        TermType::Tuple => "a tuple that is not {atom, term}",
        TermType::Map => "a map with a key that is no atom",
        TermType::Binary => "a binary that is no UTF-8",
        TermType::Integer => "an integer of more than 64 bits",
        _ => return format!("{term:?} can stand in no definition"),
    };
    format!("{what} can stand in no definition")
}

/// A binary with these bytes.
pub fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Binary<'a> {
    let mut binary = NewBinary::new(env, bytes.len());
    binary.as_mut_slice().copy_from_slice(bytes);
    binary.into()
}
