//! Merges give way to queries: while one runs a merge stands still, but no longer in all than it has worked, so that queries
//! without end make merges half as quick and never stop them.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Store;

#[derive(Default)]
pub struct Turns {
    state: Mutex<State>,
    query_ended: Condvar,
}

#[derive(Default)]
struct State {
    queries: usize,
    waiting: usize,
    waited: Duration,
}

/// A query that runs.
pub struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.queries -= 1;
        if state.queries == 0 {
            self.0.query_ended.notify_all();
        }
    }
}

impl Turns {
    /// Stands still while queries run, for as long as may be. Answers for how long.
    pub fn give_way(&self, at_most: Duration) -> Duration {
        let mut state = self.state.lock();
        if state.queries == 0 || at_most.is_zero() {
            return Duration::ZERO;
        }
        let (began, deadline) = (Instant::now(), Instant::now() + at_most);
        state.waiting += 1;
        while state.queries > 0 && !self.query_ended.wait_until(&mut state, deadline).timed_out() {}
        state.waiting -= 1;
        let waited = began.elapsed();
        state.waited += waited;
        waited
    }
}

impl Store {
    /// A query runs until the answer is dropped.
    pub fn begin_query(&self) -> Turn<'_> {
        self.turns.state.lock().queries += 1;
        Turn(&self.turns)
    }

    /// How long merges have stood still for queries.
    pub fn merges_waited(&self) -> Duration {
        self.turns.state.lock().waited
    }
}

#[cfg(test)]
mod tests {
    use disk::FakeDisk;

    use super::super::Effort;
    use super::super::tests::{NOW_MS, apply, open};
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn it_stands_still_until_the_last_query_ends() {
        let store = open(&FakeDisk::new());
        assert_eq!(store.turns.give_way(LONG), Duration::ZERO, "nobody asks");
        let (first, second) = (store.begin_query(), store.begin_query());
        drop(first);
        std::thread::scope(|scope| {
            let merge = scope.spawn(|| store.turns.give_way(LONG));
            let deadline = Instant::now() + Duration::from_secs(60);
            while store.turns.state.lock().waiting == 0 {
                assert!(Instant::now() < deadline && !merge.is_finished(), "it does not stand still");
                std::thread::yield_now();
            }
            drop(second);
            assert!(merge.join().expect("no panic") < LONG);
        });
        assert_eq!(store.turns.state.lock().queries, 0);
    }

    /// A dashboard that asks without end must not keep parts from being merged.
    #[test]
    fn a_query_without_end_stops_no_merge() {
        let store = open(&FakeDisk::new());
        for offset in 0..8 {
            apply(&store, offset, &[(1, NOW_MS + offset as i64, offset), (2, NOW_MS, offset)]);
            store.publish().expect("published");
        }
        let _query = store.begin_query();
        assert!(store.merge_one(NOW_MS, Effort::Due).expect("merged"));
        assert!(store.merges_waited() > Duration::ZERO, "it gave way");
    }
}
