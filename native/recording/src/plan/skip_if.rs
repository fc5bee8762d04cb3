//! When a step does not apply.

use crate::field::Fields;

/// Flags of which any that is set makes a step not apply. The second is there only with the first.
#[derive(Clone, Copy)]
pub struct SkipIf(pub(crate) [Option<usize>; 2]);

impl SkipIf {
    /// Whether the step does not apply to an event.
    #[inline]
    pub fn is_set(self, fields: &Fields<'_>) -> bool {
        let [flag, other] = self.0;
        flag.is_some_and(|flag| {
            fields.choice(flag) == 0 || other.is_some_and(|other| fields.choice(other) == 0)
        })
    }
}
