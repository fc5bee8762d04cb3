//! NIFs that are registered by hand, because `#[rustler::nif]` costs more than what they do: the
//! wrapper that it generates collects the arguments into a vector on the heap (38 ns measured), and
//! decoding a resource looks its type up in a hash map (32 ns). Here the arguments stay where the
//! VM has put them, and plans and routers are named by a number or atom.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use rustler::codegen_runtime::c_int;
use rustler::sys::{ErlNifEnv, ErlNifTerm};
use rustler::{Atom, Env, Term};

mod atoms {
    rustler::atoms! { panicked }
}

static PANICS: AtomicU64 = AtomicU64::new(0);

/// How many calls of the whole VM ended in a panic: a bug, so always zero.
#[rustler::nif]
fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// A term as a number. That of an atom is the same for as long as the VM lives.
#[inline]
pub fn word(term: ErlNifTerm) -> u64 {
    // SAFETY: a term is a transparent wrapper around a `size_t`, whose value the wrapper keeps to itself.
    (unsafe { std::mem::transmute::<ErlNifTerm, usize>(term) }) as u64
}

/// The term of a number that [`word`] has returned.
///
/// # Safety
///
/// [`word`] has returned the number for an atom: the VM takes any other for a pointer, or for a term
/// that may be gone.
#[inline]
pub unsafe fn from_word(word: u64) -> ErlNifTerm {
    // SAFETY: both are a `size_t`, and the caller says that it is a term.
    unsafe { std::mem::transmute::<usize, ErlNifTerm>(word as usize) }
}

/// The arguments of a call.
#[derive(Clone, Copy)]
pub struct Arguments<'a> {
    env: Env<'a>,
    terms: &'a [ErlNifTerm],
}

impl<'a> Arguments<'a> {
    /// An argument; one that was not passed is `None`.
    #[inline]
    pub fn get(&self, at: usize) -> Option<Term<'a>> {
        // SAFETY: the VM passes terms of `env`.
        self.terms.get(at).map(|raw| unsafe { Term::new(self.env, *raw) })
    }

    /// All arguments, if there are so many.
    #[inline]
    pub fn all<const N: usize>(&self) -> Option<[Term<'a>; N]> {
        let terms: [ErlNifTerm; N] = self.terms.try_into().ok()?;
        // SAFETY: the VM passes terms of `env`.
        Some(terms.map(|raw| unsafe { Term::new(self.env, raw) }))
    }
}

/// Does what a NIF does; a panic becomes the atom `panicked`, and is counted.
///
/// # Safety
///
/// The arguments are those that the VM has called a NIF with.
#[inline]
pub unsafe fn call(
    env: *mut ErlNifEnv,
    argc: c_int,
    argv: *const ErlNifTerm,
    nif: impl for<'a> FnOnce(Env<'a>, Arguments<'a>) -> Term<'a>,
) -> ErlNifTerm {
    // SAFETY: the same is asked of the caller.
    unsafe { call_or(env, argc, argv, atoms::panicked(), nif) }
}

/// The same where a panic becomes another atom.
///
/// # Safety
///
/// As of [`call`].
#[inline]
pub unsafe fn call_or(
    env: *mut ErlNifEnv,
    argc: c_int,
    argv: *const ErlNifTerm,
    panicked: Atom,
    nif: impl for<'a> FnOnce(Env<'a>, Arguments<'a>) -> Term<'a>,
) -> ErlNifTerm {
    let lifetime = ();
    // SAFETY: the VM passes a valid environment and `argc` terms, all of which live until the NIF
    // returns; `lifetime` ends before.
    let (env, terms) =
        unsafe { (Env::new(&lifetime, env), std::slice::from_raw_parts(argv, argc as usize)) };
    // After a panic the core's state is as valid as before: atomic counters, and caches and tables
    // that are valid after every statement.
    let result = catch_unwind(AssertUnwindSafe(|| nif(env, Arguments { env, terms }).as_c_arg()));
    result.unwrap_or_else(|_| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        panicked.as_c_arg()
    })
}
