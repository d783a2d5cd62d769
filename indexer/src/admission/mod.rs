//! What may go on the bus: nothing on it is refused later, so every edge asks here first.
//!
//! Streams and lines over a tenant's limits are refused one by one, the rest is taken ([`checks`]); what comes too fast is
//! refused as a whole, because its sender sends it again ([`usage`]). What is found of lines at arrival is added here
//! ([`discovery`]).

mod checks;
mod discovery;
mod usage;

use std::collections::HashMap;
use std::sync::Arc;

use ::service::config::{ByTenant, LogLimits};
use ::service::metrics::{Counter, CounterBy, Metrics};
use model::{Labels, LineRef, LogBatch, Origin};
use parking_lot::{Mutex, RwLock};

use crate::Indexer;
use crate::store::LogStore;
use checks::{RATE_LIMITED, STREAM_LIMIT, Times, check_labels, check_metadata, check_text};
pub use checks::{Refusal, Refusals};
pub use discovery::{Collected, Discovery};
use usage::Usage;

/// Tenants whose usage is known at once; above it those that send nothing any more are forgotten.
const MANY_TENANTS: usize = 1000;
const TRUNCATED: &str = "truncated";

/// What a tenant may send, and how its lines are looked at.
#[derive(Debug)]
pub struct Rules {
    pub limits: LogLimits,
    pub discovery: Arc<Discovery>,
}

impl Rules {
    pub fn new(limits: &LogLimits) -> Rules {
        Rules { limits: limits.clone(), discovery: Arc::new(Discovery::new(limits)) }
    }
}

/// The limits in force, and what is used of them.
pub struct Admission {
    rules: RwLock<ByTenant<Rules>>,
    usage: Mutex<HashMap<String, Usage>>,
    lines_refused: CounterBy,
    bytes_refused: CounterBy,
    lines_cut: Counter,
}

impl Admission {
    pub fn new(limits: &ByTenant<LogLimits>, metrics: &Metrics) -> Admission {
        let admission = Admission {
            rules: RwLock::new(limits.map(Rules::new)),
            usage: Mutex::default(),
            lines_refused: CounterBy::default(),
            bytes_refused: CounterBy::default(),
            lines_cut: Counter::default(),
        };
        metrics.register(|registry| {
            let (lines, bytes) = (admission.lines_refused.clone(), admission.bytes_refused.clone());
            registry.register("indexer_lines_refused", "Lines refused before the bus", lines);
            registry.register("indexer_bytes_refused", "Bytes of lines refused before the bus", bytes);
            let help = "Lines cut because they were longer than their tenant's may be";
            registry.register("indexer_lines_cut", help, admission.lines_cut.clone());
        });
        admission
    }

    pub fn set_limits(&self, limits: &ByTenant<LogLimits>) {
        *self.rules.write() = limits.map(Rules::new);
    }

    pub fn rules(&self, tenant: &str) -> Arc<Rules> {
        self.rules.read().of(tenant).clone()
    }

    /// Does something with what a tenant uses.
    fn with_usage<T>(&self, tenant: &str, now_ns: i64, with: impl FnOnce(&mut Usage) -> T) -> T {
        let mut all = self.usage.lock();
        if let Some(usage) = all.get_mut(tenant) {
            return with(usage);
        }
        if all.len() >= MANY_TENANTS {
            all.retain(|_, usage| !usage.is_idle(now_ns));
        }
        with(all.entry(tenant.to_owned()).or_default())
    }

    /// Streams of all tenants that had lines within the hour.
    pub fn active_streams(&self) -> usize {
        self.usage.lock().values().map(Usage::active_streams).sum()
    }

    /// Whether so much may come now; the bytes are taken then.
    pub fn take(&self, tenant: &str, lines: usize, bytes: usize, now_ns: i64) -> Result<(), Refusal> {
        let rules = self.rules(tenant);
        let (rate, burst) = (rules.limits.ingestion_rate.0, rules.limits.ingestion_burst.0);
        if rate == 0 {
            return Ok(());
        }
        let burst = if burst == 0 { rate } else { burst };
        if self.with_usage(tenant, now_ns, |usage| usage.take(bytes as u64, rate, burst, now_ns)) {
            return Ok(());
        }
        Err(Refusal::new(
            RATE_LIMITED,
            format!(
                "Ingestion rate limit exceeded for user {tenant} (limit: {rate} bytes/sec) while attempting to ingest \
                 '{lines}' lines totaling '{bytes}' bytes, reduce log volume or contact your Loki administrator to see \
                 if the limit can be increased"
            ),
        ))
    }

    /// Whether a stream may have lines.
    pub fn check_stream(&self, rules: &Rules, tenant: &str, labels: &Labels, now_ns: i64) -> Result<(), Refusal> {
        check_labels(labels, &rules.limits)?;
        let max_streams = rules.limits.max_streams;
        let hash = labels.hash(tenant);
        if max_streams == 0 || self.with_usage(tenant, now_ns, |usage| usage.admits(hash, max_streams, now_ns)) {
            return Ok(());
        }
        let shown: String = labels.to_string().chars().take(200).collect();
        Err(Refusal::new(
            STREAM_LIMIT,
            format!(
                "Maximum active stream limit exceeded when trying to create stream {shown}, reduce the number of active \
                 streams (reduce labels or reduce label values), or contact your Loki administrator to see if the limit \
                 can be increased, user: '{tenant}'"
            ),
        ))
    }

    pub fn count(&self, refusals: &Refusals) {
        for (reason, refused) in refusals.by_reason() {
            let by = vec![("reason", reason.to_owned())];
            self.lines_refused.get_or_create(&by).inc_by(refused.lines as u64);
            self.bytes_refused.get_or_create(&by).inc_by(refused.bytes as u64);
        }
    }
}

/// A line that may enter, as it may.
pub struct Admitted<'t> {
    pub text: &'t str,
    pub is_cut: bool,
}

/// What is looked at in one request's lines.
pub struct Gate {
    pub rules: Arc<Rules>,
    pub times: Times,
    pub now_ns: i64,
}

impl Gate {
    pub fn new(store: &LogStore, admission: &Admission, tenant: &str) -> Gate {
        Gate { rules: admission.rules(tenant), times: Times::now(store, tenant), now_ns: store.now_ns() }
    }

    /// A line of a stream, before it gets its place.
    pub fn admit<'a, 't>(
        &self,
        labels: &Labels,
        t_ns: i64,
        text: &'t str,
        metadata: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Admitted<'t>, Refusal> {
        self.times.check(labels, t_ns)?;
        let cut = check_text(labels, text, &self.rules.limits)?;
        check_metadata(labels, metadata, &self.rules.limits)?;
        Ok(Admitted { text: cut, is_cut: cut.len() < text.len() })
    }
}

impl Admission {
    /// A cut line's metadata.
    pub fn marked_cut(&self, metadata: &Labels) -> Labels {
        self.lines_cut.inc();
        metadata.with(TRUNCATED, "true")
    }
}

fn pairs(set: &Labels) -> impl Iterator<Item = (&str, &str)> {
    set.iter().map(|label| (&*label.name, &*label.value))
}

impl Indexer {
    /// What of a batch may go on the bus, and why the rest may not; `None` where nothing is left to append. An error is for
    /// all of it: it comes too fast, and may be sent again.
    ///
    /// A tailed batch keeps its byte range whatever is refused of it, be it every line: the range then counts as covered,
    /// and the agent does not send it for ever.
    pub fn admit_batch(&self, batch: LogBatch) -> Result<(Option<LogBatch>, Vec<String>), String> {
        let gate = Gate::new(&self.store, &self.admission, &batch.tenant);
        let (lines, bytes) = (batch.len(), batch.text_bytes());
        if let Err(refusal) = self.admission.take(&batch.tenant, lines, bytes, gate.now_ns) {
            let message = refusal.message.clone();
            let mut refusals = Refusals::default();
            refusals.refuse(lines, bytes, refusal);
            self.admission.count(&refusals);
            return Err(message);
        }
        let (kept, refusals) = admit(batch, &gate, &self.admission);
        self.admission.count(&refusals);
        Ok((kept, refusals.messages().to_vec()))
    }

    pub fn set_log_limits(&self, limits: &ByTenant<LogLimits>) {
        self.admission.set_limits(limits);
    }
}

fn admit(batch: LogBatch, gate: &Gate, admission: &Admission) -> (Option<LogBatch>, Refusals) {
    let mut refusals = Refusals::default();
    let mut kept = Collected::new(gate.rules.discovery.clone(), &batch.tenant, batch.origin);
    let checked = |labels| admission.check_stream(&gate.rules, &batch.tenant, labels, gate.now_ns);
    let streams: Vec<Result<(), Refusal>> = batch.streams.iter().map(checked).collect();
    for labels in &batch.streams {
        kept.stream(labels);
    }
    let sets: Vec<u32> = batch.metadata.iter().map(|set| kept.set(set)).collect();
    for line in batch.lines() {
        let (labels, metadata) = (&batch.streams[line.stream as usize], &batch.metadata[line.metadata as usize]);
        let admitted = streams[line.stream as usize].clone();
        match admitted.and_then(|()| gate.admit(labels, line.t_ns, line.text, pairs(metadata))) {
            Ok(Admitted { text, is_cut }) => {
                let set = if is_cut { kept.set(&admission.marked_cut(metadata)) } else { sets[line.metadata as usize] };
                kept.push(line.stream, set, &LineRef { text, ..line });
            }
            Err(refusal) => refusals.refuse(1, line.text.len(), refusal),
        }
    }
    let is_left = !kept.is_empty() || batch.origin != Origin::Pushed;
    (is_left.then(|| kept.into_batch()), refusals)
}

#[cfg(test)]
mod tests {
    use model::FileId;

    use super::*;

    const TAILED: Origin = Origin::Tailed { file: FileId(1), start: 100, end: 190 };

    /// Lines of ten bytes of a file at these times, of which these are left, and a part of each reason.
    fn check(origin: Origin, times: &[i64], expected: Option<&[(i64, u64)]>, reasons: &[&str]) {
        let mut batch = LogBatch::new("t", origin);
        batch.streams = vec![Labels::from_pairs([("a", "b")]), Labels::default()];
        batch.metadata.push(Labels::from_pairs([("big", "x".repeat(64 * 1024))]));
        for (n, t_ns) in times.iter().enumerate() {
            let source_end = if origin == Origin::Pushed { 0 } else { (n as u32 + 1) * 10 };
            // 7 is of no stream, 8 has too much metadata.
            batch.push(u32::from(*t_ns == 7), *t_ns, "line", u32::from(*t_ns == 8), source_end);
        }
        let admission = Admission::new(&ByTenant::default(), &Metrics::default());
        let gate = Gate { rules: admission.rules("t"), times: Times { oldest_ns: 5, newest_ns: 20 }, now_ns: 10 };
        let (kept, refusals) = admit(batch, &gate, &admission);
        let found = refusals.messages();
        let lines = kept.map(|kept| {
            assert_eq!(kept.origin, origin, "the range stays");
            kept.lines().map(|line| (line.t_ns, line.source.1)).collect::<Vec<_>>()
        });
        assert_eq!(lines.as_deref(), expected);
        assert_eq!(found.len(), reasons.len(), "{found:?}");
        for (found, part) in found.iter().zip(reasons) {
            assert!(found.contains(part), "{found}");
        }
    }

    /// Records from other agents came to the bus unchecked: data of any time, label sets of any size.
    #[test]
    fn records_of_others_are_checked_like_any_push() {
        check(Origin::Pushed, &[10, 11], Some(&[(10, 0), (11, 0)]), &[]);
        check(
            Origin::Pushed,
            &[4, 10, 21, 7, 8],
            Some(&[(10, 0)]),
            &["too old", "too new", "at least one", "metadata"],
        );
        check(Origin::Pushed, &[4, 4], None, &["too old"]);
    }

    /// A range that was not taken would be sent again for ever.
    #[test]
    fn a_tailed_range_stays_whole_whatever_is_refused_of_it() {
        check(TAILED, &[4, 10, 21, 11, 8], Some(&[(10, 120), (11, 140)]), &["too old", "too new", "metadata"]);
        check(TAILED, &[4, 7], Some(&[]), &["too old", "at least one"]);
    }
}
