use super::super::key::Hashing;
use super::*;
use loom::thread;

/// A run lands while one that waits for it gives up.
#[test]
fn who_waits_is_either_told_or_has_left() {
    loom::model(|| {
        let flights: loom::sync::Arc<Flights<u32, (), ()>> = loom::sync::Arc::new(Flights::new(10));
        let key = Arc::new(Hashing::default().key(b"key").to_key());
        let enter = |who| flights.enter(&key, who, (), |()| true, || None::<()>, || ());
        let Entered::Leads(id) = enter(1) else { panic!("nobody leads") };
        assert!(matches!(enter(2), Entered::Waits(_)));
        let leaving = {
            let flights = flights.clone();
            thread::spawn(move || flights.leave(id, 2))
        };
        let told = flights.land(id).map_or(0, |landed| landed.waiters.len());
        let left = leaving.join().expect("no panic");
        assert_eq!(told + usize::from(left), 1);
        assert_eq!(flights.len(), (0, 0));
    });
}
