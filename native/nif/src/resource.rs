//! Instances as resources.

use std::sync::{Arc, Mutex};

use rustler::{Resource, ResourceArc};
use telemetry_instance::instance::Instance;
use telemetry_reports::page::SharedMemo;

use crate::cache::CacheResource;
use crate::forwarder::Forwarder;
use crate::rendered::{Spare, Unsettled};
use crate::usage_file::File;

/// An instance that lives as long as a term refers to it, and what the BEAM's side of it needs.
pub struct InstanceResource {
    pub instance: Instance,
    pub file: Mutex<File>,
    pub cache: Option<ResourceArc<CacheResource>>,
    pub spare: Arc<Spare>,
    pub unsettled: Unsettled,
    pub page_memo: SharedMemo,
    pub forwarder: Forwarder,
}

impl std::panic::RefUnwindSafe for InstanceResource {}

#[rustler::resource_impl]
impl Resource for InstanceResource {}
