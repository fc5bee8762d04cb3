//! NIFs that do nothing, as baselines of the benchmarks. No part of the library.

use rustler::codegen_runtime::{c_char, c_int, inventory};
use rustler::sys::{ErlNifEnv, ErlNifTerm};
use rustler::{Atom, Nif, Term};

mod atoms {
    rustler::atoms! { ok }
}

/// What `#[rustler::nif]` makes of a function of as many arguments as our `record` has for a
/// `call_method` stop.
#[rustler::nif]
#[allow(clippy::too_many_arguments)]
fn empty<'a>(
    a: Term<'a>,
    b: Term<'a>,
    c: Term<'a>,
    d: Term<'a>,
    e: Term<'a>,
    f: Term<'a>,
    g: Term<'a>,
    h: Term<'a>,
) -> Atom {
    std::hint::black_box((a, b, c, d, e, f, g, h));
    atoms::ok()
}

/// The same of as many arguments as our `route` has.
#[rustler::nif(name = "empty")]
fn empty_of_three<'a>(a: Term<'a>, b: Term<'a>, c: Term<'a>) -> Atom {
    std::hint::black_box((a, b, c));
    atoms::ok()
}

/// The same without the wrapper: what the VM alone takes for a call.
unsafe extern "C" fn bare(_: *mut ErlNifEnv, _: c_int, _: *const ErlNifTerm) -> ErlNifTerm {
    atoms::ok().as_c_arg()
}

macro_rules! register_bare {
    ($($arity:literal),+) => {
        $(inventory::submit!(Nif {
            name: c"bare".as_ptr() as *const c_char,
            arity: $arity,
            flags: 0,
            raw_func: bare,
        });)+
    };
}

register_bare!(3, 8);

rustler::init!("Elixir.Bench.EmptyNif");
