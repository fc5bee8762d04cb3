//! Usage counts and their file.

use std::path::Path;
use std::sync::MutexGuard;
use telemetry_common::lock::lock;

use rustler::{Atom, Encoder, Env, NifResult, Term};
use serde::Serialize;
use telemetry_instance::usage::KindReport;
use telemetry_instance::usage_file::UsageFile;
use telemetry_recording::family::UsageKind;
use telemetry_reports::usage_window::{KindInWindow, UsageInWindow};
use telemetry_windows::window::Interval;

use crate::decode::{self, List};
use crate::encode;
use crate::error::raise;
use crate::resource::InstanceResource;
use crate::usage_file::{File, FileState, Open, SetAside};

mod atoms {
    rustler::atoms! { ok, error, no_path, class, tool }
}

/// The report with the state of the file.
#[derive(Serialize)]
struct UsageReport {
    total: u64,
    before: u64,
    since_start: u64,
    classes: KindReport,
    methods: KindReport,
    tools: KindReport,
    variables: KindReport,
    file: Option<FileState>,
}

/// The report over a window.
#[derive(Serialize)]
pub struct WindowReport {
    interval: Interval,
    total: u64,
    classes: KindInWindow,
    methods: KindInWindow,
    tools: KindInWindow,
    variables: KindInWindow,
}

fn file(instance: &InstanceResource) -> MutexGuard<'_, File> {
    lock(&instance.file)
}

#[rustler::nif(schedule = "DirtyIo")]
fn usage<'a>(
    env: Env<'a>,
    instance: &InstanceResource,
    top: usize,
    now: Term<'a>,
) -> NifResult<Term<'a>> {
    let report = instance.instance.usage(decode::moment(now)?).report(top);
    let file = match &*file(instance) {
        File::Open(open) => Some(open.state.clone()),
        File::None | File::Closed => None,
    };
    let report = UsageReport {
        total: report.total,
        before: report.before,
        since_start: report.since_start,
        classes: report.kinds.classes,
        methods: report.kinds.methods,
        tools: report.kinds.tools,
        variables: report.kinds.variables,
        file,
    };
    encode::term(env, &report).map_err(raise)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn usage_in_window<'a>(
    env: Env<'a>,
    instance: &InstanceResource,
    top: usize,
    window: Term<'a>,
    now: Term<'a>,
) -> NifResult<Term<'a>> {
    let (window, now) = (decode::window(window)?, decode::moment(now)?);
    let usage = UsageInWindow::new(&instance.instance, top, window, now);
    encode::term(env, &WindowReport::from(usage)).map_err(raise)
}

impl From<UsageInWindow> for WindowReport {
    fn from(usage: UsageInWindow) -> Self {
        Self {
            interval: usage.interval,
            total: usage.total,
            classes: usage.kinds.classes,
            methods: usage.kinds.methods,
            tools: usage.kinds.tools,
            variables: usage.kinds.variables,
        }
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn declare<'a>(
    env: Env<'a>,
    instance: &InstanceResource,
    kind: Atom,
    List(names): List<&'a str>,
) -> NifResult<Term<'a>> {
    let kind = if kind == atoms::class() {
        UsageKind::Class
    } else if kind == atoms::tool() {
        UsageKind::Tool
    } else {
        return Err(rustler::Error::BadArg);
    };
    Ok(match instance.instance.declare(kind, &names) {
        Ok(()) => atoms::ok().encode(env),
        Err(error) => (atoms::error(), error.to_string()).encode(env),
    })
}

#[rustler::nif(schedule = "DirtyIo")]
fn usage_open<'a>(
    env: Env<'a>,
    instance: &InstanceResource,
    path: &str,
    owner: &str,
) -> NifResult<Term<'a>> {
    let (opened, restored) = match UsageFile::open(Path::new(path), owner) {
        Ok(opened) => opened,
        Err(error) => return Ok((atoms::error(), error.to_string()).encode(env)),
    };
    let set_aside = restored.set_aside.map(|set_aside| SetAside {
        path: set_aside.path.display().to_string(),
        why: set_aside.why.as_str(),
    });
    let state = FileState {
        path: opened.path().display().to_string(),
        restored: restored.snapshot.is_some(),
        set_aside: set_aside.clone(),
        last_error: None,
    };
    let usage = instance.instance.usage_so_far();
    if let Some(snapshot) = restored.snapshot {
        usage.restore(snapshot);
    }
    let saved_revision = usage.revision();
    *file(instance) = File::Open(Open { file: opened, state, saved_revision });
    Ok((atoms::ok(), encode::term(env, &set_aside).map_err(raise)?).encode(env))
}

#[rustler::nif(schedule = "DirtyIo")]
fn usage_save<'a>(env: Env<'a>, instance: &InstanceResource, now: Term<'a>) -> NifResult<Term<'a>> {
    let now = decode::moment(now)?;
    Ok(match &mut *file(instance) {
        File::Open(open) => outcome(env, open.save(&instance.instance, now)),
        File::None | File::Closed => (atoms::error(), atoms::no_path()).encode(env),
    })
}

/// Saves for the last time and lets go of the file. Does nothing where there is none.
#[rustler::nif(schedule = "DirtyIo")]
fn usage_close<'a>(
    env: Env<'a>,
    instance: &InstanceResource,
    now: Term<'a>,
) -> NifResult<Term<'a>> {
    let now = decode::moment(now)?;
    let mut file = file(instance);
    let saved = match &mut *file {
        File::Open(open) => open.save(&instance.instance, now),
        File::None | File::Closed => return Ok(atoms::ok().encode(env)),
    };
    *file = File::Closed;
    Ok(outcome(env, saved))
}

fn outcome<'a>(env: Env<'a>, saved: Result<(), String>) -> Term<'a> {
    match saved {
        Ok(()) => atoms::ok().encode(env),
        Err(message) => (atoms::error(), message).encode(env),
    }
}
