use super::super::key::Hashing;
use super::*;
use loom::thread;

/// Three look for a result, find none, and enter; who leads stores the result before it lands.
#[test]
fn the_function_is_run_once_whoever_comes_when() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let flights: loom::sync::Arc<Flights<u32, (), ()>> = loom::sync::Arc::new(Flights::new(10));
        let kept = loom::sync::Arc::new(Mutex::new(None));
        let key = Arc::new(Hashing::default().key(b"key").to_key());
        let fetch = {
            let (flights, kept) = (flights.clone(), kept.clone());
            move |who: u32| {
                let find = || *kept.lock().expect("no panic");
                if find().is_some() {
                    return 0;
                }
                match flights.enter(&key, who, (), |()| true, find, || ()) {
                    Entered::Leads(flight) => {
                        *kept.lock().expect("no panic") = Some(who);
                        flights.land(flight);
                        1
                    }
                    Entered::Found(_) | Entered::Waits(_) => 0,
                    other => panic!("{other:?}"),
                }
            }
        };
        let others: Vec<_> = (1..3)
            .map(|who| {
                let fetch = fetch.clone();
                thread::spawn(move || fetch(who))
            })
            .collect();
        let mine = fetch(0);
        let others = others.into_iter().map(|other| other.join().expect("no panic"));
        assert_eq!(mine + others.sum::<u32>(), 1);
        assert_eq!(flights.len(), (0, 0));
    });
}
