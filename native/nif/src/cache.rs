//! The adaptive cache: terms into keys and back, and who waits for whom.

mod call;
mod key;
mod lookup;
mod resource;

pub use resource::CacheResource;
