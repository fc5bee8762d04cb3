use super::*;

fn paths(transports: &[&str]) -> CallPaths {
    let transports = transports.iter().map(|&command| command.to_owned()).collect();
    CallPaths::new(CallPathSpec { transports, worker_limit: 2 })
}

fn execution(paths: &CallPaths, process: u64, worker: &str, command: &str) -> [Path; 2] {
    [Phase::Begin, Phase::End]
        .map(|phase| paths.of_execution(process, Some(worker), command.as_bytes(), Some(phase)))
}

#[test]
fn a_transport_is_known_by_its_command() {
    let paths = paths(&["snakebridge.*", "relay"]);
    for (command, path) in [
        ("snakebridge.call", Path::Transport),
        ("snakebridge.", Path::Transport),
        ("snakebridge", Path::Direct),
        ("relay", Path::Transport),
        ("relays", Path::Direct),
    ] {
        assert_eq!(execution(&paths, 1, "w", command), [path; 2], "{command}");
    }
}

#[test]
fn an_execution_in_the_process_of_a_call_carries_it() {
    let paths = paths(&[]);
    assert_eq!(execution(&paths, 1, "w", "predict"), [Path::Direct; 2]);
    paths.enter(1, Operation::Call);
    assert_eq!(execution(&paths, 1, "w", "predict"), [Path::Carried(1); 2]);
    assert_eq!(execution(&paths, 2, "w", "predict"), [Path::Direct; 2]);
    // Its own call wins over the one that the worker's request was dispatched for.
    paths.enter(2, Operation::Call);
    paths.dispatched(1, "w", b"predict");
    assert_eq!(execution(&paths, 2, "w", "predict"), [Path::Carried(2); 2]);
    paths.forget_worker("w");
    paths.leave(|| 1, Operation::Call);
    assert_eq!(execution(&paths, 1, "w", "predict"), [Path::Direct; 2]);
}

#[test]
fn an_execution_that_was_dispatched_for_a_call_carries_it() {
    let paths = paths(&[]);
    paths.enter(1, Operation::Call);
    paths.dispatched(1, "a", b"predict");
    paths.dispatched(2, "b", b"predict");
    assert_eq!(execution(&paths, 7, "a", "predict"), [Path::Carried(1); 2]);
    assert_eq!(execution(&paths, 8, "b", "predict"), [Path::Direct; 2]);
    // The call may be over before the execution is.
    paths.dispatched(1, "a", b"predict");
    paths.leave(|| 1, Operation::Call);
    assert_eq!(execution(&paths, 7, "a", "predict"), [Path::Carried(1); 2]);
    // Another attempt of the same request.
    assert_eq!(execution(&paths, 7, "a", "predict"), [Path::Carried(1); 2]);
    paths.dispatched(2, "a", b"predict");
    assert_eq!(execution(&paths, 7, "a", "predict"), [Path::Direct; 2]);
}

#[test]
fn requests_of_a_worker_are_executed_in_their_order() {
    let paths = paths(&[]);
    paths.enter(1, Operation::Call);
    for process in [1, 2, 1, 2] {
        paths.dispatched(process, "w", b"predict");
    }
    paths.dispatched(1, "w", b"never executed");
    paths.dispatched(2, "w", b"other");
    let expected = [Path::Carried(1), Path::Direct, Path::Carried(1), Path::Direct];
    for path in expected {
        assert_eq!(execution(&paths, 7, "w", "predict"), [path; 2]);
    }
    assert_eq!(execution(&paths, 7, "w", "other"), [Path::Direct; 2]);
    paths.dispatched(1, "w", b"predict");
    paths.forget_worker("w");
    assert_eq!(execution(&paths, 7, "w", "predict"), [Path::Direct; 2]);
}

#[test]
fn operations_nest_and_a_lost_end_is_made_up_for() {
    let paths = paths(&[]);
    paths.enter(1, Operation::Create);
    paths.enter(1, Operation::Call);
    paths.leave(|| 1, Operation::Tool);
    paths.leave(|| 1, Operation::Call);
    assert!(paths.is_inside(1));
    // A call within a call.
    paths.leave(|| 1, Operation::Create);
    (0..2).for_each(|_| paths.enter(1, Operation::Call));
    paths.leave(|| 1, Operation::Call);
    assert!(paths.is_inside(1));
    paths.leave(|| 1, Operation::Call);
    assert!(!paths.is_inside(1));
    paths.enter(1, Operation::Create);
    paths.enter(1, Operation::Call);
    paths.enter(1, Operation::Tool);
    paths.leave(|| 1, Operation::Create);
    assert!(!paths.is_inside(1));
    assert_eq!(paths.caller_count.load(Relaxed), 0);
    for _ in 0..100 {
        paths.enter(1, Operation::Call);
    }
    assert!(paths.is_inside(1));
}

#[test]
fn the_router_learns_once_how_a_call_went() {
    let paths = paths(&[]);
    paths.enter(1, Operation::Call);
    assert!(paths.completes(Path::Carried(1)));
    // The execution has told it already.
    assert!(!paths.call_completes(1));
    assert!(paths.call_completes(1), "another call of the process");
    paths.leave(|| 1, Operation::Call);
    // From now on the bridge tells it.
    paths.enter(1, Operation::Call);
    assert!(!paths.completes(Path::Carried(1)));
    assert!(paths.call_completes(1));
    assert!(paths.completes(Path::Direct) && paths.completes(Path::Transport));
}

#[test]
fn processes_that_ended_in_a_call_are_forgotten() {
    let paths = paths(&[]);
    for process in 0..100 {
        paths.enter(process, Operation::Call);
    }
    paths.tick(SWEEP_INTERVAL_MS, SWEEP_INTERVAL_MS, |process| process % 2 == 0);
    assert_eq!(paths.callers.len(), 50);
    assert_eq!(paths.caller_count.load(Relaxed), 50);
    // They are not looked for at every tick.
    paths.tick(2 * SWEEP_INTERVAL_MS, 2 * SWEEP_INTERVAL_MS - 1, |_| false);
    assert_eq!(paths.callers.len(), 50);
    paths.tick(2 * SWEEP_INTERVAL_MS, 2 * SWEEP_INTERVAL_MS, |_| false);
    assert!(paths.callers.is_empty());
}

#[test]
fn calls_are_followed_at_first_and_where_there_is_a_pool() {
    let paths = paths(&[]);
    assert!(paths.follows());
    paths.tick(EXPECTED_WITHIN_MS - 1, 1, |_| true);
    assert!(paths.follows());
    paths.tick(EXPECTED_WITHIN_MS, 1, |_| true);
    assert!(!paths.follows());
    paths.dispatched(1, "w", b"predict");
    assert!(paths.follows());
    paths.tick(2 * EXPECTED_WITHIN_MS, 1, |_| true);
    assert!(paths.follows());
}

#[test]
fn an_execution_says_that_there_is_a_pool() {
    let paths = paths(&[]);
    paths.tick(EXPECTED_WITHIN_MS, 1, |_| true);
    assert!(!paths.follows());
    paths.of_execution(1, None, b"predict", None);
    assert!(paths.follows());
}

#[test]
fn memory_is_bounded() {
    let paths = paths(&[]);
    for request in 0..10_000 {
        paths.dispatched(1, &format!("worker-{}", request % 7), b"predict");
    }
    let requests = paths.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests.values().all(|requests| requests.len() <= REQUESTS_OF_A_WORKER));
}

#[test]
fn the_oldest_of_too_many_requests_is_forgotten() {
    let paths = paths(&[]);
    paths.enter(1, Operation::Call);
    paths.dispatched(1, "w", b"first");
    (1..REQUESTS_OF_A_WORKER).for_each(|_| paths.dispatched(2, "w", b"predict"));
    paths.dispatched(1, "w", b"last");
    assert_eq!(execution(&paths, 7, "w", "first"), [Path::Direct; 2]);
    assert_eq!(execution(&paths, 7, "w", "last"), [Path::Carried(1); 2]);
}

#[test]
fn no_more_processes_are_followed_than_there_may_be() {
    let paths = paths(&[]);
    paths.caller_count.store(CALLERS - 1, Relaxed);
    paths.enter(1, Operation::Call);
    paths.enter(2, Operation::Call);
    assert!(paths.is_inside(1) && !paths.is_inside(2));
}

#[test]
fn memory_of_processes_and_of_requests_is_counted() {
    let paths = paths(&[]);
    assert_eq!(paths.memory_bytes(), 0);
    (0..1_000).for_each(|process| paths.enter(process, Operation::Call));
    let callers = paths.callers.capacity() * size_of::<(u64, Caller)>();
    assert_eq!(paths.memory_bytes(), callers);
    let worker = "w".repeat(10_000);
    (0..REQUESTS_OF_A_WORKER).for_each(|_| paths.dispatched(1, &worker, b"predict"));
    let workers = 4 * (size_of::<(Box<str>, VecDeque<Request>)>() + 1) + worker.len();
    let requests = REQUESTS_OF_A_WORKER * size_of::<Request>();
    assert_eq!(paths.memory_bytes(), callers + workers + requests);
}
