//! The thread that carries an instance's signals to its dispatcher process.
//!
//! It sends only on demand: the dispatcher asks, gets one message with what has come in until then
//! or comes next, and asks again when it is done with that. So signals wait in the channel, whose
//! length is bounded, and not in a mailbox.

use std::sync::Mutex;
use std::thread::{self, JoinHandle};
use telemetry_common::lock::lock;

use crossbeam_channel::{Receiver, Sender, select, unbounded};
use rustler::{Encoder, LocalPid, OwnedEnv};
use telemetry_instance::instance::Instance;
use telemetry_instance::signal::Sent;

use crate::encode;

mod atoms {
    rustler::atoms! { signals }
}

/// Most signals in one message.
const BATCH: usize = 64;

enum Control {
    Demand(LocalPid),
    Stop,
}

/// The way to the thread, which starts with the first demand.
#[derive(Default)]
pub struct Forwarder(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Running(Sender<Control>, JoinHandle<()>),
    Stopped,
}

impl Forwarder {
    /// The next signals go to this process, in one message `{signals, List}`.
    pub fn demand(&self, instance: &Instance, pid: LocalPid) {
        let mut state = lock(&self.0);
        if let State::Idle = *state {
            let (sender, control) = unbounded();
            let signals = instance.signals();
            let builder = thread::Builder::new().name("dspex_signals".to_owned());
            // Without a thread there are no alerts, and the next demand tries again.
            if let Ok(thread) = builder.spawn(move || forward(&signals, &control)) {
                *state = State::Running(sender, thread);
            }
        }
        if let State::Running(control, _) = &*state {
            // Fails only if the thread is gone, which it is not before `stop`.
            let _ = control.send(Control::Demand(pid));
        }
    }

    /// Ends the thread and waits for it.
    pub fn stop(&self) {
        let mut state = lock(&self.0);
        if let State::Running(control, thread) = std::mem::replace(&mut *state, State::Stopped) {
            let _ = control.send(Control::Stop);
            // A panic of the thread is its own end and nobody else's.
            let _ = thread.join();
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits for a demand, then for signals, then sends; until it is told to stop.
fn forward(signals: &Receiver<Sent>, control: &Receiver<Control>) {
    while let Some(mut pid) = next_demand(control) {
        let mut batch = Vec::new();
        while batch.is_empty() {
            select! {
                recv(signals) -> signal => match signal {
                    Ok(signal) => batch.push(signal),
                    Err(_) => return,
                },
                recv(control) -> order => match order {
                    Ok(Control::Demand(newer)) => pid = newer,
                    Ok(Control::Stop) | Err(_) => return,
                },
            }
        }
        batch.extend(signals.try_iter().take(BATCH - 1));
        // A dispatcher that has died meanwhile has a successor, which asks as well.
        while !send(&pid, &batch) {
            match next_demand(control) {
                Some(successor) => pid = successor,
                None => return,
            }
        }
    }
}

fn next_demand(control: &Receiver<Control>) -> Option<LocalPid> {
    match control.recv() {
        Ok(Control::Demand(pid)) => Some(pid),
        Ok(Control::Stop) | Err(_) => None,
    }
}

fn send(pid: &LocalPid, batch: &[Sent]) -> bool {
    let sent = OwnedEnv::new().send_and_clear(pid, |env| {
        let signals: Vec<_> =
            batch.iter().filter_map(|signal| encode::term(env, &signal.describe()).ok()).collect();
        (atoms::signals(), signals).encode(env)
    });
    sent.is_ok()
}
