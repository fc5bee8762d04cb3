//! The library that the BEAM loads: decodes terms, calls the other crates, encodes what it says.

mod cache;
mod clock;
mod cluster;
mod decode;
mod encode;
mod error;
mod exposition;
mod forwarder;
mod instance;
mod observe;
mod raw;
mod record;
mod rendered;
mod resource;
mod router;
mod usage;
mod usage_file;

rustler::init!("Elixir.DSPexTelemetry.Native", load = instance::load);
