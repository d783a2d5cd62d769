//! What may go on the bus: nothing on it is refused later, so every edge asks here first.

use model::{Labels, LineRef, LogBatch, LogColumns, MAX_LINE_BYTES, Origin};

use crate::Indexer;
use crate::store::LogStore;

const MAX_LABELS: usize = 64;
const MAX_NAME_BYTES: usize = 1024;
const MAX_VALUE_BYTES: usize = 4096;
const MAX_METADATA: usize = 128;
const MAX_METADATA_BYTES: usize = 64 * 1024;
const MAX_FUTURE_NS: i64 = 86_400_000_000_000;
/// Reasons that an answer spells out.
const MAX_REASONS: usize = 10;

impl Indexer {
    /// What of a batch may go on the bus, and why the rest may not; `None` where nothing is left to append.
    ///
    /// A tailed batch keeps its byte range whatever is refused of it, be it every line: the range then counts as covered,
    /// and the agent does not send it for ever.
    pub fn admit_batch(&self, batch: LogBatch) -> (Option<LogBatch>, Vec<String>) {
        let times = Times::now(&self.store, &batch.tenant);
        admit(batch, &times)
    }
}

fn admit(batch: LogBatch, times: &Times) -> (Option<LogBatch>, Vec<String>) {
    let streams: Vec<Result<(), String>> = batch.streams.iter().map(check_labels).collect();
    let pairs = |set: &Labels| check_metadata(set.iter().map(|label| (&*label.name, &*label.value)));
    let metadata: Vec<Result<(), String>> = batch.metadata.iter().map(pairs).collect();
    let check = |line: &LineRef<'_>| {
        streams[line.stream as usize].clone()?;
        metadata[line.metadata as usize].clone()?;
        times.check(line.t_ns)?;
        match line.text.len() {
            0..=MAX_LINE_BYTES => Ok(()),
            bytes => Err(format!("a line of {bytes} bytes; the limit is {MAX_LINE_BYTES}")),
        }
    };
    let (mut columns, mut refusals) = (LogColumns::default(), Refusals::default());
    for line in batch.lines() {
        match check(&line) {
            Ok(()) => append(&mut columns, &line, batch.origin),
            Err(reason) => {
                refusals.refuse(1, format!("stream {}: {reason}", shown(&batch.streams[line.stream as usize])))
            }
        }
    }
    if refusals.lines() == 0 {
        return (Some(batch), Vec::new());
    }
    let is_pushed = batch.origin == Origin::Pushed;
    let kept = if is_pushed && columns.t_ns.is_empty() {
        None
    } else {
        let LogBatch { tenant, origin, streams, metadata, .. } = batch;
        let kept = LogBatch::from_columns(tenant, origin, streams, metadata, columns);
        Some(kept.unwrap_or_else(|fault| panic!("lines of a batch no longer make one: {fault}")))
    };
    (kept, refusals.reasons)
}

/// Stores tell by a line's last byte whether they have it, so that what is left out between lines changes nothing.
fn append(columns: &mut LogColumns, line: &LineRef<'_>, origin: Origin) {
    let source_end = match origin {
        Origin::Pushed => 0,
        Origin::Tailed { start, .. } => line.source.1 - start,
    };
    columns.stream.push(line.stream);
    columns.t_ns.push(line.t_ns);
    columns.metadata.push(line.metadata);
    columns.text.push_str(line.text);
    columns.text_end.push(u32::try_from(columns.text.len()).expect("no more text than the batch had"));
    columns.source_end.push(u32::try_from(source_end).expect("no more bytes than the batch had"));
}

/// The beginning of a label set, for messages.
fn shown(labels: &Labels) -> String {
    labels.to_string().chars().take(200).collect()
}

/// The times that are taken.
pub struct Times {
    oldest_ns: i64,
    newest_ns: i64,
}

impl Times {
    pub fn now(store: &LogStore, tenant: &str) -> Times {
        let now_ns = store.now_ns();
        let oldest_ns = now_ns.saturating_sub(store.options().retention.longest_ns(tenant));
        Times { oldest_ns, newest_ns: now_ns.saturating_add(MAX_FUTURE_NS) }
    }

    pub fn check(&self, t_ns: i64) -> Result<(), String> {
        if t_ns < self.oldest_ns {
            return Err("timestamp too old: it is beyond retention".to_owned());
        }
        if t_ns > self.newest_ns {
            return Err("timestamp too new: it is more than a day ahead".to_owned());
        }
        Ok(())
    }
}

/// How much was refused, and a bounded number of reasons.
#[derive(Default)]
pub struct Refusals {
    lines: usize,
    reasons: Vec<String>,
}

impl Refusals {
    pub fn refuse(&mut self, lines: usize, reason: String) {
        self.lines += lines;
        if self.reasons.len() < MAX_REASONS && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    pub fn lines(&self) -> usize {
        self.lines
    }

    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }
}

pub fn check_labels(labels: &Labels) -> Result<(), String> {
    if labels.is_empty() {
        return Err("at least one label pair is required per stream".to_owned());
    }
    if labels.len() > MAX_LABELS {
        return Err(format!("a stream of {} labels; the limit is {MAX_LABELS}", labels.len()));
    }
    match labels.iter().find(|label| label.name.len() > MAX_NAME_BYTES || label.value.len() > MAX_VALUE_BYTES) {
        Some(label) => {
            let name = &label.name[..label.name.floor_char_boundary(80)];
            Err(format!(
                "label {name:?}: its name or value is too long (limits: {MAX_NAME_BYTES}, {MAX_VALUE_BYTES} bytes)"
            ))
        }
        None => Ok(()),
    }
}

/// A line's structured metadata, as names and values.
pub fn check_metadata<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), String> {
    let (count, bytes) =
        pairs.fold((0, 0), |(count, bytes), (name, value)| (count + 1, bytes + name.len() + value.len()));
    if count > MAX_METADATA || bytes > MAX_METADATA_BYTES {
        return Err(format!("structured metadata of {count} labels and {bytes} bytes is over the limit"));
    }
    Ok(())
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
        batch.metadata.push(Labels::from_pairs([("big", "x".repeat(MAX_METADATA_BYTES))]));
        for (n, t_ns) in times.iter().enumerate() {
            let source_end = if origin == Origin::Pushed { 0 } else { (n as u32 + 1) * 10 };
            // 7 is of no stream, 8 has too much metadata.
            batch.push(u32::from(*t_ns == 7), *t_ns, "line", u32::from(*t_ns == 8), source_end);
        }
        let (kept, found) = admit(batch, &Times { oldest_ns: 5, newest_ns: 20 });
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
