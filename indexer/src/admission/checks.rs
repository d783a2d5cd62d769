//! What is looked at in a stream and in a line before they may enter. Reasons and words are Loki's, where it has them.

use std::collections::BTreeMap;

use ::service::config::LogLimits;
use model::{Labels, MAX_LINE_BYTES, NS_PER_MS, format_rfc3339_ms};

use crate::store::LogStore;

const MAX_FUTURE_NS: i64 = 86_400_000_000_000;
/// Messages that an answer spells out.
const MAX_MESSAGES: usize = 10;
/// How much of a label set or a name a message shows.
const MAX_SHOWN_CHARS: usize = 200;

/// Why something is not taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Its name in metrics.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Refusal {
    pub fn new(reason: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { reason, message: message.into() }
    }

    /// Whether it would be taken later.
    pub fn passes(&self) -> bool {
        matches!(self.reason, RATE_LIMITED | STREAM_LIMIT)
    }
}

pub const RATE_LIMITED: &str = "rate_limited";
pub const STREAM_LIMIT: &str = "stream_limit";

/// Refused lines by reason, and a bounded number of messages.
#[derive(Debug, Default)]
pub struct Refusals {
    by_reason: BTreeMap<&'static str, Refused>,
    messages: Vec<String>,
    /// Whether all of it would be taken later.
    all_pass: bool,
}

#[derive(Debug, Default, Clone, Copy)]
pub struct Refused {
    pub lines: usize,
    pub bytes: usize,
}

impl Refusals {
    pub fn refuse(&mut self, lines: usize, bytes: usize, refusal: Refusal) {
        self.all_pass = refusal.passes() && (self.all_pass || self.by_reason.is_empty());
        let refused = self.by_reason.entry(refusal.reason).or_default();
        refused.lines += lines;
        refused.bytes += bytes;
        if self.messages.len() < MAX_MESSAGES && !self.messages.contains(&refusal.message) {
            self.messages.push(refusal.message);
        }
    }

    pub fn lines(&self) -> usize {
        self.by_reason.values().map(|refused| refused.lines).sum()
    }

    pub fn by_reason(&self) -> impl Iterator<Item = (&'static str, Refused)> {
        self.by_reason.iter().map(|(reason, refused)| (*reason, *refused))
    }

    pub fn messages(&self) -> &[String] {
        &self.messages
    }

    pub fn all_pass(&self) -> bool {
        self.all_pass
    }
}

/// The beginning of a text, for messages.
fn shown(text: &impl ToString) -> String {
    text.to_string().chars().take(MAX_SHOWN_CHARS).collect()
}

pub fn check_labels(labels: &Labels, limits: &LogLimits) -> Result<(), Refusal> {
    if labels.is_empty() {
        return Err(Refusal::new("missing_labels", "error at least one label pair is required per stream"));
    }
    if labels.len() > limits.max_labels {
        let message = format!(
            "entry for stream '{}' has {} label names; limit {}",
            shown(labels),
            labels.len(),
            limits.max_labels
        );
        return Err(Refusal::new("max_label_names_per_series", message));
    }
    for label in labels {
        if label.name.len() > limits.max_label_name_bytes {
            let message = format!("stream '{}' has label name too long: '{}'", shown(labels), shown(&label.name));
            return Err(Refusal::new("label_name_too_long", message));
        }
        if label.value.len() > limits.max_label_value_bytes {
            let message = format!("stream '{}' has label value too long: '{}'", shown(labels), shown(&label.value));
            return Err(Refusal::new("label_value_too_long", message));
        }
    }
    Ok(())
}

/// A line's structured metadata, as names and values.
pub fn check_metadata<'a>(
    labels: &Labels,
    pairs: impl Iterator<Item = (&'a str, &'a str)>,
    limits: &LogLimits,
) -> Result<(), Refusal> {
    let (count, bytes) =
        pairs.fold((0, 0), |(count, bytes), (name, value)| (count + 1, bytes + name.len() + value.len()));
    let (max_count, max_bytes) = (limits.max_metadata_labels, limits.max_metadata_size.0);
    if bytes as u64 > max_bytes {
        let message = format!(
            "stream '{}' has structured metadata too large: '{bytes}' bytes, limit: '{max_bytes}' bytes.",
            shown(labels)
        );
        return Err(Refusal::new("structured_metadata_too_large", message));
    }
    if count > max_count {
        let message = format!(
            "stream '{}' has too many structured metadata labels: '{count}', limit: '{max_count}'.",
            shown(labels)
        );
        return Err(Refusal::new("structured_metadata_too_many", message));
    }
    Ok(())
}

/// As much of a line as may be long.
pub fn check_text<'t>(labels: &Labels, text: &'t str, limits: &LogLimits) -> Result<&'t str, Refusal> {
    let limit = usize::try_from(limits.max_line_size.0).unwrap_or(MAX_LINE_BYTES).min(MAX_LINE_BYTES);
    if text.len() <= limit {
        return Ok(text);
    }
    if limits.truncate_long_lines {
        return Ok(&text[..text.floor_char_boundary(limit)]);
    }
    let message = format!(
        "Max entry size '{limit}' bytes exceeded for stream '{}' while adding an entry with length '{}' bytes",
        shown(labels),
        text.len()
    );
    Err(Refusal::new("line_too_long", message))
}

/// The times that are taken.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    pub oldest_ns: i64,
    pub newest_ns: i64,
}

impl Times {
    pub fn now(store: &LogStore, tenant: &str) -> Times {
        let now_ns = store.now_ns();
        let oldest_ns = now_ns.saturating_sub(store.options().retention.longest_ns(tenant));
        Times { oldest_ns, newest_ns: now_ns.saturating_add(MAX_FUTURE_NS) }
    }

    pub fn check(&self, labels: &Labels, t_ns: i64) -> Result<(), Refusal> {
        let time = |ns: i64| format_rfc3339_ms(ns.div_euclid(NS_PER_MS));
        if t_ns < self.oldest_ns {
            let message = format!(
                "entry for stream '{}' has timestamp too old: {}, oldest acceptable timestamp is: {}",
                shown(labels),
                time(t_ns),
                time(self.oldest_ns)
            );
            return Err(Refusal::new("greater_than_max_sample_age", message));
        }
        if t_ns > self.newest_ns {
            let message = format!("entry for stream '{}' has timestamp too new: {}", shown(labels), time(t_ns));
            return Err(Refusal::new("too_far_in_future", message));
        }
        Ok(())
    }
}
