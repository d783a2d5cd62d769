//! Lines that were to be forgotten are not seen from that moment on, wherever they are, and leave the disk.

use model::LineDeletes;

use super::*;

fn deletes(query: &str, from_ns: i64, to_ns: i64) -> Arc<Batch> {
    Arc::new(Batch::LineDeletes(LineDeletes {
        id: format!("{query} {from_ns}"),
        tenant: "t".into(),
        query: query.into(),
        start_ns: NOON_NS.saturating_add(from_ns),
        end_ns: NOON_NS.saturating_add(to_ns),
        created_ms: 1,
    }))
}

fn waiting(store: &LogStore) -> (usize, usize) {
    let (due, done) = store.erasures("t");
    (due.len(), done.len())
}

#[test]
fn what_came_before_is_gone_and_what_comes_later_stays() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    store.apply(0, 0, &pushed("a", &[(1, "one"), (2, "secret two"), (3, "three")]));
    store.apply(0, 1, &pushed("b", &[(2, "secret b")]));
    store.publish().expect("published");
    store.apply(0, 2, &pushed("a", &[(4, "secret four"), (5, "five")]));
    let forget = deletes(r#"{app="a"} |= "secret""#, i64::MIN, 10);
    store.apply(0, 3, &forget);
    check(&store, "a|b", &["one", "secret b", "three", "five"]);
    // Pushed once more, the line is a new one.
    store.apply(0, 4, &pushed("a", &[(4, "secret four"), (2, "secret two")]));
    check(&store, "a", &["one", "secret two", "three", "secret four", "five"]);
    assert_eq!(waiting(&store), (1, 0));
    assert!(store.wants_publish());
    store.publish().expect("published");
    assert!(store.merge().expect("written again"));
    assert!(!store.merge().expect("nothing left"));
    assert_eq!(waiting(&store), (0, 1));
    check(&store, "a", &["one", "secret two", "three", "secret four", "five"]);
    let first = store.snapshot("t").segments.iter().map(|segment| segment.entry.lines).collect::<Vec<_>>();
    assert_eq!(first.iter().sum::<u64>(), 6, "two of eight are off the disk: {first:?}");
    drop(store);
    let store = open(&disk);
    check(&store, "a|b", &["one", "secret b", "secret two", "three", "secret four", "five"]);
    assert_eq!(waiting(&store), (0, 1));
}

#[test]
fn a_range_and_labels_bound_it() {
    let store = open(&FakeDisk::new());
    store.apply(0, 0, &pushed("a", &[(1, "one"), (2, "two"), (3, "three")]));
    store.publish().expect("published");
    store.apply(0, 1, &deletes(r#"{app="b"}"#, i64::MIN, 10));
    store.apply(0, 2, &deletes(r#"{app="a"}"#, 2, 2));
    store.apply(0, 3, &deletes(r#"{app="a"} | level="warn""#, i64::MIN, 10));
    check(&store, "a", &["one", "three"]);
    store.apply(0, 4, &deletes(r#"{app="a"} | level="info""#, 3, 10));
    check(&store, "a", &["one"]);
}

#[test]
fn a_stream_that_is_deleted_whole_leaves_nothing() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    store.apply(0, 0, &pushed("a", &[(1, "one")]));
    store.publish().expect("published");
    store.apply(0, 1, &deletes(r#"{app="a"}"#, i64::MIN, 10));
    let candidates = store.snapshot("t").segments.len();
    assert_eq!(candidates, 1);
    check(&store, "a", &[]);
    store.publish().expect("published");
    assert!(store.merge().expect("written again"));
    assert_eq!(store.stats().segments, 0);
    assert_eq!(disk.list(Path::new("/logs")).expect("listed"), ["manifest"]);
}

/// A head that failed to be published holds the lines still; it is read through the erasure, and so are its segments.
#[test]
fn a_head_that_is_being_published_is_read_through_it() {
    let disk = FakeDisk::new();
    let store = open(&disk);
    store.apply(0, 0, &pushed("a", &[(1, "one"), (2, "two")]));
    disk.fail_syncs(1);
    store.publish().expect_err("the disk fails");
    store.apply(0, 1, &deletes(r#"{app="a"} |= "two""#, i64::MIN, 10));
    check(&store, "a", &["one"]);
    assert!(store.publish().expect("the first head"));
    check(&store, "a", &["one"]);
    assert!(store.publish().expect("the erasure"));
    while store.merge().expect("written again") {}
    assert_eq!(store.snapshot("t").segments[0].entry.lines, 1);
    check(&store, "a", &["one"]);
}

#[test]
fn a_crash_brings_nothing_back() {
    for changes in 0..70 {
        let disk = FakeDisk::new();
        let store = open(&disk);
        disk.cut_power_after(changes);
        let forget = deletes(r#"{app=~".+"} |~ "line 000[0-3]|p""#, i64::MIN, 1000);
        let records =
            [tailed(1, 0, 4), pushed("p", &[(9, "p"), (10, "q")]), forget, tailed(1, 4, 6), pushed("p", &[(9, "p")])];
        for (offset, record) in records.iter().enumerate() {
            store.apply(0, offset as u64, record);
            let _ = store.publish().and_then(|_| store.merge());
        }
        drop(store);
        let store = open(&disk.crash(u64::from(changes)));
        let next = store.next_offset(0).unwrap_or(0) as usize;
        for (offset, record) in records.iter().enumerate().skip(next) {
            store.apply(0, offset as u64, record);
        }
        assert_eq!(select(&store, "file1", false, &[], 99), ["line 0004", "line 0005"], "after {changes} changes");
        assert_eq!(select(&store, "p", false, &[], 99), ["p", "q"], "after {changes} changes");
    }
}
