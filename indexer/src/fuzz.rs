//! Entry points for the fuzz targets in `fuzz/`: each takes any bytes, and panics where a contract does not hold.

use std::path::Path;
use std::sync::Arc;

use ::query::{LineSelect, Lines, Visit};
use ::service::config::ByTenant;
use ::service::http::Params;
use ::service::metrics::Metrics;
use bus::{MAX_RECORD_BYTES, decode, encode, split};
use disk::FakeDisk;
use model::Batch;

use crate::admission::Admission;
use crate::api::bulk::items_of;
use crate::api::documents::Reading;
use crate::api::intake::{self, Entry, Intake};
use crate::api::{otlp, push};
use crate::store::retention::Retention;
use crate::store::{LogStore, StoreOptions};

const NOW_NS: i64 = 1_700_000_000_000_000_000;
const TENANT: &str = "fuzz";

fn open() -> LogStore {
    let options = StoreOptions { retention: Arc::new(Retention::of(i64::MAX)), ..StoreOptions::default() };
    let disk = Arc::new(FakeDisk::new());
    LogStore::open(disk, Path::new("/logs"), "bus", options, Arc::new(|| NOW_NS)).expect("an empty store opens")
}

fn admission() -> Admission {
    Admission::new(&ByTenant::default(), &Metrics::default())
}

/// A push, in every way that it may be wrapped. What is admitted must pass the bus, the head and a segment. Answers how
/// many lines did.
pub fn push(body: &[u8]) -> usize {
    let mut stored = 0;
    for (is_json, encoding) in [(true, ""), (false, "snappy")] {
        let (store, admission) = (open(), admission());
        let mut intake = Intake::over(&store, &admission, TENANT);
        for (labels, entries) in push::read_push(is_json, encoding, body).into_iter().flatten() {
            intake.stream(labels, entries);
        }
        stored += pass_on(&store, intake);
    }
    for encoding in ["gzip", "deflate", "zstd"] {
        let _ = intake::decode(encoding, body);
    }
    stored
}

/// A request of OpenTelemetry, as protobuf and as JSON.
pub fn otlp(body: &[u8]) -> usize {
    let mut stored = 0;
    for is_json in [false, true] {
        let Ok(request) = otlp::read(is_json, "", body) else { continue };
        let (store, admission) = (open(), admission());
        let mut intake = Intake::over(&store, &admission, TENANT);
        for (labels, entry) in otlp::entries(request, NOW_NS) {
            let _ = intake.line(&labels, entry);
        }
        stored += pass_on(&store, intake);
    }
    stored
}

/// Elasticsearch's actions and documents.
pub fn bulk(body: &[u8]) -> usize {
    let Ok(items) = items_of(body, "i") else { return 0 };
    let reading = Reading::of(&Params::default(), |_| None).expect("nothing is wrong with no parameters");
    let (store, admission) = (open(), admission());
    let mut intake = Intake::over(&store, &admission, TENANT);
    for document in items.into_iter().filter_map(|item| item.document.ok()) {
        let (labels, entry): (_, Entry) = reading.line(document, ("index", "i"), NOW_NS);
        let _ = intake.line(&labels, entry);
    }
    pass_on(&store, intake)
}

fn pass_on(store: &LogStore, intake: Intake) -> usize {
    let batch = intake.into_batch();
    if batch.is_empty() {
        return 0;
    }
    for (offset, part) in split(Batch::Logs(batch)).into_iter().enumerate() {
        let record = encode(&part);
        assert!(record.len() <= MAX_RECORD_BYTES);
        let read = decode(&record).expect("what was written is read");
        assert!(encode(&read) == record, "what was read is written as it was");
        store.apply(0, offset as u64, &Arc::new(read));
    }
    let before = everything(store);
    store.publish().expect("published");
    assert_eq!(before, everything(store), "segments answer as the head did");
    before.len()
}

fn everything(store: &LogStore) -> Vec<String> {
    let request = LineSelect {
        tenant: TENANT,
        matchers: &[],
        start_ns: i64::MIN,
        end_ns: i64::MAX,
        backward: false,
        contains: &[],
        words: &[],
        told_by: None,
        deadline: None,
    };
    let mut lines = Vec::new();
    let mut show = |line: ::query::SelectedLine<'_>| {
        lines.push(format!("{} {} {} {:?}", line.t_ns, line.labels, line.metadata, line.text));
        Visit::Continue(())
    };
    store.snapshot(TENANT).select(&request, &mut show).expect("selected");
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_points_take_what_is_good_and_what_is_not() {
        let pushed = format!(r#"{{"streams":[{{"stream":{{"a":"b"}},"values":[["{NOW_NS}","x",{{"c":"d"}}]]}}]}}"#);
        assert_eq!(push(pushed.as_bytes()), 1);
        assert_eq!(push(&pushed.as_bytes()[1..]), 0);
        let record = format!(r#"{{"timeUnixNano":"{NOW_NS}","body":{{"stringValue":"x"}}}}"#);
        let request = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{record}]}}]}}]}}"#);
        assert_eq!(otlp(request.as_bytes()), 1);
        assert_eq!(otlp(b"\xff"), 0);
        assert_eq!(bulk(b"{\"create\":{}}\n{\"message\":\"x\"}\n"), 1);
        assert_eq!(bulk(b"{\"create\":{}}\n{\"message\""), 0);
    }
}
