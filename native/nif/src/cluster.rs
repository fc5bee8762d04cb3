//! Snapshots for other nodes, and reports over those of several.

use rustler::{Binary, Encoder, Env, Error, NifResult, Term};
use serde::Serialize;
use telemetry_reports::cluster::merge::{Answer, Limits, Merged};
use telemetry_reports::cluster::node::{Refusal, State};
use telemetry_reports::cluster::report::{ClusterErrors, ClusterReport, usage};
use telemetry_reports::cluster::snapshot;

use crate::decode::{self, List};
use crate::encode;
use crate::error::raise;
use crate::resource::InstanceResource;
use crate::usage::WindowReport;

mod atoms {
    rustler::atoms! { ok, error }
}

/// Of each node its name, what it is and what it sent.
type Answers<'a> = List<(String, Term<'a>, Term<'a>)>;

/// `{ok, Binary}` or `{error, {State, Reason}}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn cluster_snapshot<'a>(
    env: Env<'a>,
    instance: &InstanceResource,
    window: Term<'a>,
    now: Term<'a>,
    limits: (usize, usize),
) -> NifResult<Term<'a>> {
    let (window, now) = (decode::window(window)?, decode::moment(now)?);
    let limits = snapshot::Limits { series: limits.0, bytes: limits.1 };
    match snapshot::take(&instance.instance, window, now, limits) {
        Ok(bytes) => Ok((atoms::ok(), decode::binary(env, &bytes)).encode(env)),
        Err(Refusal { state, reason }) => {
            let state = encode::term(env, &state).map_err(raise)?;
            Ok((atoms::error(), (state, reason)).encode(env))
        }
    }
}

/// The report with its nodes.
#[rustler::nif(schedule = "DirtyCpu")]
fn cluster_report<'a>(
    env: Env<'a>,
    List(answers): Answers<'a>,
    limits: (usize, usize),
    now: Term<'a>,
) -> NifResult<Term<'a>> {
    let ClusterReport { report, nodes } = ClusterReport::new(&merged(&answers, limits, now)?);
    pair(env, &report, &nodes)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn cluster_report_json(
    List(answers): Answers,
    limits: (usize, usize),
    now: Term,
) -> NifResult<String> {
    ClusterReport::new(&merged(&answers, limits, now)?).to_json().map_err(raise)
}

/// The report, whose spikes and anomalies stand beside it, each with its node.
#[rustler::nif(schedule = "DirtyCpu")]
fn cluster_errors<'a>(
    env: Env<'a>,
    List(answers): Answers<'a>,
    limits: (usize, usize),
    now: Term<'a>,
) -> NifResult<Term<'a>> {
    let merged = merged(&answers, limits, now)?;
    let ClusterErrors { errors, spikes, recent_spikes, anomalies } = ClusterErrors::new(&merged);
    let spikes = of_nodes(env, &spikes)?;
    let recent_spikes = of_nodes(env, &recent_spikes)?;
    let anomalies = of_nodes(env, &anomalies)?;
    let report = pair(env, &errors, &merged.nodes())?;
    Ok((report, spikes, recent_spikes, anomalies).encode(env))
}

#[rustler::nif(schedule = "DirtyCpu")]
fn cluster_usage<'a>(
    env: Env<'a>,
    List(answers): Answers<'a>,
    limits: (usize, usize),
    now: Term<'a>,
    top: usize,
) -> NifResult<Term<'a>> {
    let merged = merged(&answers, limits, now)?;
    pair(env, &WindowReport::from(usage(&merged, top)), &merged.nodes())
}

/// What a node sent, for as long as its term lives.
enum Sent<'a> {
    Snapshot(Binary<'a>),
    Nothing(State, Option<String>),
}

/// Adds up answers: `{Node, ok, Binary}`, or `{Node, State, Reason}` of a node that sent nothing.
fn merged(
    answers: &[(String, Term<'_>, Term<'_>)],
    (series, bytes): (usize, usize),
    now: Term<'_>,
) -> NifResult<Merged> {
    let now = decode::moment(now)?;
    let decoded: Vec<_> = answers
        .iter()
        .map(|(node, state, content)| {
            if atoms::ok() == *state {
                Ok((node.clone(), Sent::Snapshot(content.decode()?)))
            } else {
                Ok((node.clone(), Sent::Nothing(self::state(*state)?, content.decode()?)))
            }
        })
        .collect::<NifResult<_>>()?;
    let answers = decoded.iter().map(|(node, answer)| {
        let answer = match answer {
            Sent::Snapshot(binary) => Answer::Snapshot(binary.as_slice()),
            Sent::Nothing(state, reason) => Answer::None(*state, reason.clone()),
        };
        (node.clone(), answer)
    });
    Ok(Merged::new(answers, Limits { series, bytes }, now))
}

fn state(term: Term<'_>) -> NifResult<State> {
    let name = decode::value(term).map_err(raise)?;
    serde_json::from_value(name).map_err(|_| Error::BadArg)
}

fn of_nodes<'a>(env: Env<'a>, things: &[(String, impl Serialize)]) -> NifResult<Term<'a>> {
    let of_node = |(node, thing): &(String, _)| -> NifResult<Term<'a>> {
        Ok((node.as_str(), encode::term(env, thing).map_err(raise)?).encode(env))
    };
    Ok(things.iter().map(of_node).collect::<NifResult<Vec<_>>>()?.encode(env))
}

fn pair<'a>(env: Env<'a>, first: &impl Serialize, second: &impl Serialize) -> NifResult<Term<'a>> {
    let first = encode::term(env, first).map_err(raise)?;
    Ok((first, encode::term(env, second).map_err(raise)?).encode(env))
}

/// The version of snapshots.
#[rustler::nif]
fn cluster_format() -> u16 {
    telemetry_reports::cluster::FORMAT
}
