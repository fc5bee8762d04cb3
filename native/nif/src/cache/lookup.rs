//! The path of a hit: one NIF that is registered by hand, for the reasons that `raw.rs` gives.

use std::cell::RefCell;
use std::ops::Range;

use rustler::codegen_runtime::{c_char, c_int, inventory};
use rustler::sys::{ErlNifEnv, ErlNifTerm};
use rustler::{Encoder, Env, Nif, NifTuple, Resource, ResourceArc, Term};
use telemetry_cache::key::KeyRef;
use telemetry_cache::store::{Bytes, Entry};

use super::key::{self, NoKey};
use super::resource::{self, CacheResource};
use crate::clock;
use crate::raw;

mod atoms {
    rustler::atoms! { ok, encoded, miss, stopped, uncacheable }
}

/// Results up to so many bytes are decoded here, which takes tens of microseconds at most. Larger
/// ones the VM decodes, which can be interrupted there.
const DECODED_BYTES: usize = 16 << 10;

/// A result in the external term format, which terms refer to, so that it need not be copied.
struct Encoded(Box<[u8]>);

#[rustler::resource_impl]
impl Resource for Encoded {}

/// In what a cache keeps its results.
pub struct Kept(ResourceArc<Encoded>);

impl Kept {
    pub fn new(result: &[u8]) -> Self {
        Self(ResourceArc::new(Encoded(result.into())))
    }

    /// A part of the bytes, which stay as long as the term does.
    fn part<'a>(&self, env: Env<'a>, range: Range<usize>) -> Term<'a> {
        self.0.make_binary(env, |encoded| &encoded.0[range]).to_term(env)
    }
}

impl Bytes for Kept {
    fn bytes(&self) -> &[u8] {
        &self.0.0
    }
}

/// Where in an encoded term the bytes of a binary are, if it is nothing but that, or `{ok, Binary}`; and
/// which of the two. The VM would copy them. Short ones it keeps on the heap of a process, where they are
/// better off.
fn binary_in(encoded: &[u8]) -> Option<(Range<usize>, bool)> {
    const SHORT: usize = 64;
    const BINARY: &[u8] = &[131, 109];
    const OK_BINARY: &[u8] = &[131, 104, 2, 119, 2, b'o', b'k', 109];
    let (start, is_ok) = if encoded.starts_with(BINARY) {
        (BINARY.len() + 4, false)
    } else if encoded.starts_with(OK_BINARY) {
        (OK_BINARY.len() + 4, true)
    } else {
        return None;
    };
    // Behind the length in four bytes there is nothing else.
    (encoded.len() > start + SHORT).then_some((start..encoded.len(), is_ok))
}

thread_local! {
    static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Method, class, reference and arguments as they come.
#[derive(Clone, Copy, NifTuple)]
pub struct CallTerms<'a> {
    pub method: Term<'a>,
    pub class: Term<'a>,
    pub reference: Term<'a>,
    pub arguments: Term<'a>,
}

/// The texts of a call.
pub struct Texts<'a> {
    pub method: &'a [u8],
    pub class: Option<&'a [u8]>,
    pub reference: Option<&'a [u8]>,
}

impl<'a> CallTerms<'a> {
    /// Uses the key of the call and its texts. A scheduler writes all its keys into one place.
    #[inline]
    pub fn with_key<R>(
        self,
        resource: &CacheResource,
        use_it: impl FnOnce(KeyRef<'_>, &Texts<'a>) -> R,
    ) -> Result<R, NoKey> {
        let method = key::text(self.method)?.ok_or(NoKey::NoText)?;
        let (class, reference) = (key::text(self.class)?, key::text(self.reference)?);
        let texts = Texts { method, class, reference };
        KEY.with_borrow_mut(|bytes| {
            bytes.clear();
            let limit = resource.cache.spec().max_key_bytes;
            key::write(method, class, reference, self.arguments, limit, bytes)?;
            Ok(use_it(resource.cache.key(bytes), &texts))
        })
    }
}

/// `{ok, Result}`, or `{encoded, Binary}` for a large one.
#[inline]
pub fn found<'a>(env: Env<'a>, entry: &Entry) -> Option<Term<'a>> {
    let kept: &Kept = entry.kept_in()?;
    let bytes = kept.bytes();
    if let Some((range, is_ok)) = binary_in(bytes) {
        let binary = kept.part(env, range);
        let result = if is_ok { (atoms::ok(), binary).encode(env) } else { binary };
        return Some((atoms::ok(), result).encode(env));
    }
    if bytes.len() <= DECODED_BYTES {
        let (result, _) = env.binary_to_term(bytes)?;
        return Some((atoms::ok(), result).encode(env));
    }
    Some((atoms::encoded(), kept.part(env, 0..bytes.len())).encode(env))
}

/// `cache_get(Cache, Method, Class, Ref, Args)`.
#[inline]
fn get<'a>(env: Env<'a>, [number, method, class, reference, arguments]: [Term<'a>; 5]) -> Term<'a> {
    let terms = CallTerms { method, class, reference, arguments };
    let Ok(number) = number.decode::<u64>() else {
        return atoms::stopped().to_term(env);
    };
    let answer = resource::with_front(number, |resource, front| {
        let now_ms = clock::cache_ms();
        let entry = terms.with_key(resource, |key, _| front.get(&resource.cache, key, now_ms));
        match entry {
            Ok(Some(entry)) => found(env, &entry).unwrap_or_else(|| atoms::miss().to_term(env)),
            Ok(None) => atoms::miss().to_term(env),
            Err(_) => atoms::uncacheable().to_term(env),
        }
    });
    answer.unwrap_or_else(|| atoms::stopped().to_term(env))
}

unsafe extern "C" fn get_nif(
    env: *mut ErlNifEnv,
    argc: c_int,
    argv: *const ErlNifTerm,
) -> ErlNifTerm {
    // A panic leaves tables of moka and counters, which are valid after every statement, and at worst a
    // key that is written anew.
    // SAFETY: the VM calls.
    unsafe {
        raw::call_or(env, argc, argv, atoms::miss(), |env, arguments| {
            arguments.all().map_or_else(|| atoms::stopped().to_term(env), |terms| get(env, terms))
        })
    }
}

inventory::submit!(Nif {
    name: c"cache_get".as_ptr() as *const c_char,
    arity: 5,
    flags: 0,
    raw_func: get_nif,
});
