//! What becomes of lines on the way: dropped, redacted, sampled, held to a rate. All that is dropped is counted by its reason.

use std::borrow::Cow;

use regex::Regex;
use service::config::{RateLimit, Redact, RedactPreset, Transform};
use xxhash_rust::xxh3::xxh3_64;

/// Why a line was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Filter,
    Sample,
    RateLimit,
    TooOld,
    /// The bus, or a sink, will never take it.
    Refused,
    /// It came faster than it could be shipped, from a sender that cannot be held back.
    Overflow,
}

impl Reason {
    pub const ALL: [Reason; 6] =
        [Reason::Filter, Reason::Sample, Reason::RateLimit, Reason::TooOld, Reason::Refused, Reason::Overflow];

    pub fn name(self) -> &'static str {
        match self {
            Reason::Filter => "filter",
            Reason::Sample => "sample",
            Reason::RateLimit => "rate_limit",
            Reason::TooOld => "too_old",
            Reason::Refused => "refused",
            Reason::Overflow => "overflow",
        }
    }
}

/// Lines dropped, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped([u64; Reason::ALL.len()]);

impl Dropped {
    pub fn add(&mut self, reason: Reason) {
        self.0[reason as usize] += 1;
    }

    pub fn each(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().map(|reason| (reason, self.0[reason as usize])).filter(|(_, count)| *count > 0)
    }
}

/// The transforms of a source, compiled.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    steps: Vec<Step>,
    drop_fields: Vec<String>,
}

#[derive(Debug, Clone)]
enum Step {
    Drop(Regex),
    Keep(Regex),
    Redact(Regex, String),
    CreditCards(Regex, String),
    /// Lines whose hash is below are kept.
    Sample(u64),
}

const REDACTED: &str = "[redacted]";

impl Filter {
    pub fn new(transforms: &[Transform]) -> Filter {
        let mut filter = Filter::default();
        for transform in transforms {
            let Transform { drop, keep, redact, sample, drop_fields } = transform;
            filter.steps.extend(drop.iter().map(|pattern| Step::Drop(pattern.0.clone())));
            filter.steps.extend(keep.iter().map(|pattern| Step::Keep(pattern.0.clone())));
            filter.steps.extend(redact.iter().flat_map(redactions));
            filter.steps.extend(sample.map(|share| Step::Sample((share * u64::MAX as f64) as u64)));
            filter.drop_fields.extend(drop_fields.iter().cloned());
        }
        filter
    }

    /// The line as it is to be shipped, or why it is not.
    pub fn apply<'a>(&self, mut text: Cow<'a, str>) -> Result<Cow<'a, str>, Reason> {
        for step in &self.steps {
            match step {
                Step::Drop(regex) if regex.is_match(&text) => return Err(Reason::Filter),
                Step::Keep(regex) if !regex.is_match(&text) => return Err(Reason::Filter),
                Step::Sample(below) if xxh3_64(text.as_bytes()) > *below => return Err(Reason::Sample),
                Step::Drop(_) | Step::Keep(_) | Step::Sample(_) => {}
                Step::Redact(regex, with) => {
                    if let Cow::Owned(redacted) = regex.replace_all(&text, with.as_str()) {
                        text = bounded(redacted);
                    }
                }
                Step::CreditCards(regex, with) => {
                    let blot = |found: &regex::Captures<'_>| match is_card(&found[0]) {
                        true => with.clone(),
                        false => found[0].to_owned(),
                    };
                    if let Cow::Owned(redacted) = regex.replace_all(&text, blot) {
                        text = bounded(redacted);
                    }
                }
            }
        }
        Ok(text)
    }

    pub fn drops_field(&self, name: &str) -> bool {
        self.drop_fields.iter().any(|dropped| dropped == name)
    }
}

/// A replacement may be longer than what it stands for.
fn bounded<'a>(mut text: String) -> Cow<'a, str> {
    if text.len() > model::MAX_LINE_BYTES {
        text.truncate(text.floor_char_boundary(model::MAX_LINE_BYTES));
    }
    Cow::Owned(text)
}

fn redactions(redact: &Redact) -> Vec<Step> {
    let with = redact.replacement.clone().unwrap_or_else(|| REDACTED.to_owned());
    let own = redact.regex.iter().map(|pattern| Step::Redact(pattern.0.clone(), with.clone()));
    let presets = redact.presets.iter().map(|preset| {
        let (pattern, keeps) = pattern_of(*preset);
        let regex = Regex::new(pattern).expect("patterns of presets are constant");
        match preset {
            RedactPreset::CreditCard => Step::CreditCards(regex, with.clone()),
            _ => Step::Redact(regex, format!("{keeps}{with}")),
        }
    });
    own.chain(presets).collect()
}

/// What a preset looks for, and what of it stays.
fn pattern_of(preset: RedactPreset) -> (&'static str, &'static str) {
    match preset {
        RedactPreset::Email => (r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}", ""),
        RedactPreset::Ip => (
            r"\b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b|(?i)\b(?:[0-9a-f]{1,4}:){3,7}(?::?[0-9a-f]{1,4})?|(?:[0-9a-f]{1,4}:)+(?::[0-9a-f]{1,4})+",
            "",
        ),
        RedactPreset::CreditCard => (r"\b\d(?:[ -]?\d){12,18}\b", ""),
        RedactPreset::BearerToken => (r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/-]+=*", "${1}"),
        RedactPreset::Password => {
            (r#"(?i)\b((?:password|passwd|pwd|secret|token|api_?key)["']?\s*[=:]\s*["']?)[^\s"',;&]+"#, "${1}")
        }
        RedactPreset::AwsKey => (r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", ""),
        RedactPreset::PrivateKey => {
            (r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", "")
        }
    }
}

/// Luhn's checksum: what tells a card's number from an order's.
fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let weigh = |(i, digit): (usize, &u32)| match i % 2 {
        0 => *digit,
        _ => (digit * 2) / 10 + (digit * 2) % 10,
    };
    digits.iter().rev().enumerate().map(weigh).sum::<u32>() % 10 == 0
}

/// Two leaky buckets, one of lines and one of bytes; each holds some seconds' worth.
#[derive(Debug)]
pub struct Bucket {
    lines: Option<Level>,
    bytes: Option<Level>,
    last_ns: i64,
}

#[derive(Debug)]
struct Level {
    per_second: f64,
    most: f64,
    left: f64,
}

const BURST_SECONDS: u64 = 10;

impl Bucket {
    pub fn new(limit: &RateLimit, now_ns: i64) -> Bucket {
        let burst_s = limit.burst_seconds.unwrap_or(BURST_SECONDS).max(1) as f64;
        let level = |per_second: u64| {
            let per_second = per_second as f64;
            Level { per_second, most: per_second * burst_s, left: per_second * burst_s }
        };
        let bytes = limit.bytes_per_second.map(|bytes| level(bytes.0));
        Bucket { lines: limit.lines_per_second.map(level), bytes, last_ns: now_ns }
    }

    /// Whether a line of so many bytes may pass now; then it is paid for.
    pub fn take(&mut self, bytes: usize, now_ns: i64) -> bool {
        let passed_s = now_ns.saturating_sub(self.last_ns).max(0) as f64 / 1e9;
        self.last_ns = now_ns;
        let mut levels: Vec<(&mut Level, f64)> = Vec::with_capacity(2);
        levels.extend(self.lines.as_mut().map(|level| (level, 1.0)));
        levels.extend(self.bytes.as_mut().map(|level| (level, bytes as f64)));
        for (level, _) in &mut levels {
            level.left = (level.left + passed_s * level.per_second).min(level.most);
        }
        // A line larger than the bucket passes when it is full.
        let passes = levels.iter().all(|(level, cost)| level.left >= cost.min(level.most));
        if passes {
            levels.iter_mut().for_each(|(level, cost)| level.left -= *cost);
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(transforms: &str, line: &str, expected: Result<&str, Reason>) {
        let transforms: Vec<Transform> = serde_json::from_str(transforms).expect("good transforms");
        let got = Filter::new(&transforms).apply(Cow::Borrowed(line));
        assert_eq!(got.as_deref().map_err(|reason| *reason), expected, "{transforms:?}");
    }

    #[test]
    fn lines_are_dropped_and_kept_by_patterns() {
        check("[]", "as it is", Ok("as it is"));
        check(r#"[{"drop": "GET /health"}]"#, "GET /healthz 200", Err(Reason::Filter));
        check(r#"[{"drop": "GET /health"}]"#, "GET / 200", Ok("GET / 200"));
        check(r#"[{"keep": "level=error"}]"#, "level=info", Err(Reason::Filter));
        check(r#"[{"sample": 0}]"#, "x", Err(Reason::Sample));
        check(r#"[{"sample": 1}]"#, "x", Ok("x"));
    }

    #[test]
    fn secrets_are_blotted_out() {
        let preset = |name: &str| format!(r#"[{{"redact": {{"presets": ["{name}"]}}}}]"#);
        for (name, line, expected) in [
            ("email", "from <a.b+c@x-y.example.org>.", "from <[redacted]>."),
            ("ip", "from 10.0.0.255:80 to fe80::1ff:fe23:4567:890a", "from [redacted]:80 to [redacted]"),
            ("ip", "version 1.2.3 at 10:20:30", "version 1.2.3 at 10:20:30"),
            (
                "credit_card",
                "paid 4111 1111 1111 1111 for order 1234567890123456",
                "paid [redacted] for order 1234567890123456",
            ),
            ("bearer_token", "Authorization: Bearer abc.DEF-1==", "Authorization: Bearer [redacted]"),
            ("password", r#"{"password": "hunter2", "n": 1}"#, r#"{"password": "[redacted]", "n": 1}"#),
            ("aws_key", "id AKIAIOSFODNN7EXAMPLE", "id [redacted]"),
        ] {
            check(&preset(name), line, Ok(expected));
        }
        check(
            r#"[{"redact": {"regex": "user=(\\w)\\w*", "replacement": "user=$1…"}}, {"drop": "alice"}]"#,
            "user=alice in",
            Ok("user=a… in"),
        );
    }

    #[test]
    fn samples_are_about_as_many_as_asked() {
        let filter = Filter::new(&serde_json::from_str::<Vec<Transform>>(r#"[{"sample": 0.25}]"#).expect("good"));
        let kept = (0..4000).filter(|n| filter.apply(format!("line {n}").into()).is_ok()).count();
        assert!((900..1100).contains(&kept), "{kept}");
    }

    #[test]
    fn a_bucket_refills_and_takes_what_is_larger_than_itself() {
        let limit: RateLimit =
            serde_json::from_str(r#"{"lines_per_second": 2, "burst_seconds": 2}"#).expect("a good limit");
        let mut bucket = Bucket::new(&limit, 0);
        let taken = |bucket: &mut Bucket, now_ns| (0..10).filter(|_| bucket.take(1, now_ns)).count();
        assert_eq!((taken(&mut bucket, 0), taken(&mut bucket, 1_000_000_000)), (4, 2));
        let limit: RateLimit = serde_json::from_str(r#"{"bytes_per_second": "10B"}"#).expect("a good limit");
        let mut bucket = Bucket::new(&limit, 0);
        assert!(bucket.take(1000, 0) && !bucket.take(1, 1_000_000_000) && !bucket.take(1, 0));
    }
}
