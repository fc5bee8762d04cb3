//! Errors as exceptions of the BEAM.

use rustler::Error;

/// Raises an error's text.
pub fn raise(error: impl ToString) -> Error {
    Error::RaiseTerm(Box::new(error.to_string()))
}
