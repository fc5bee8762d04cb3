//! What a receiver answers.

use prost::DecodeError;
use prost::Message;

use super::message::{ExportMetricsServiceResponse, Status};

/// What a receiver says of a request that it has accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// How many data points it has not taken.
    pub rejected_data_points: u64,
    /// Why, or what else it wants to be known. Empty if there is nothing.
    pub message: String,
}

/// Reads the body of an answer of success.
///
/// # Errors
///
/// [`DecodeError`] if it is not the message that it should be.
pub fn accepted(body: &[u8]) -> Result<Accepted, DecodeError> {
    let response = ExportMetricsServiceResponse::decode(body)?;
    let partial = response.partial_success.unwrap_or_default();
    let rejected_data_points = u64::try_from(partial.rejected_data_points).unwrap_or(0);
    Ok(Accepted { rejected_data_points, message: partial.error_message })
}

/// The reason in the body of an answer of failure.
///
/// # Errors
///
/// [`DecodeError`] if it is not the message that it should be.
pub fn refused(body: &[u8]) -> Result<String, DecodeError> {
    Status::decode(body).map(|status| status.message)
}
