//! Details: what an event that is given once more says beside its fields.

/// What an event says of a call beside its labels and numbers; what is not known is empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Details<'a> {
    /// The message of the error.
    pub message: &'a [u8],
    /// The worker that executed it.
    pub worker_id: &'a [u8],
    /// The caller's session.
    pub session_id: &'a [u8],
    /// The trace.
    pub trace_id: &'a [u8],
    /// The span.
    pub span_id: &'a [u8],
    /// What joins the events of one execution.
    pub correlation_id: &'a [u8],
    /// Whether the failure says nothing about the worker's health.
    pub is_callers_fault: bool,
}

impl<'a> Details<'a> {
    /// The value of an exemplar's label, empty if it is not known.
    pub fn exemplar_label(&self, name: &str) -> &'a [u8] {
        match name {
            "trace_id" => self.trace_id,
            "span_id" => self.span_id,
            "session_id" => self.session_id,
            "correlation_id" => self.correlation_id,
            _ => b"",
        }
    }
}
