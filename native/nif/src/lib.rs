//! The library that the BEAM loads: decodes terms, calls `telemetry_core`, encodes what it says.

mod decode;
mod encode;
mod instance;
mod record;

rustler::init!("Elixir.DSPexTelemetry.Native", load = instance::load);
