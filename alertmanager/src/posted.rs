//! Alerts as others write them: posted to the API, or put on the topic as plain JSON.
//!
//! What a message on the topic leaves open is filled in from the message's own time, so that reading it again, here or by
//! another router, gives the same alert.

use model::{Alert, Fingerprint, Labels};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::matchers::MatcherMode;
use crate::state::State;
use crate::tool::parse_time_ms;

/// How alerts are completed.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub mode: MatcherMode,
    pub now_ms: i64,
    pub resolve_timeout_ms: i64,
}

/// A message of somebody else's on the topic: an alert, an array of them, or nothing under the fingerprint of one that ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plain {
    /// Topic, partition and offset.
    pub place: String,
    pub key: String,
    pub value: String,
    pub at_ms: i64,
}

impl Plain {
    /// The alerts in it, and why the rest is none.
    pub fn read(&self, state: &State, reading: &Reading) -> (Vec<Alert>, Option<String>) {
        let now_ms = self.at_ms.min(reading.now_ms);
        if self.value.is_empty() {
            return match Fingerprint::parse(&self.key) {
                Some(fingerprint) => {
                    let known = state.alerts.get(&fingerprint);
                    (known.map(|alert| ended(alert, now_ms)).into_iter().collect(), None)
                }
                None => (Vec::new(), Some("the message is empty, and its key is no fingerprint".to_owned())),
            };
        }
        let posted = match serde_json::from_str(&self.value) {
            Ok(Value::Array(posted)) => posted,
            Ok(one) => vec![one],
            Err(error) => return (Vec::new(), Some(error.to_string())),
        };
        let reading = Reading { now_ms, ..*reading };
        let (mut alerts, mut faults) = (Vec::new(), Vec::new());
        for one in posted {
            let posted = serde_json::from_value::<PostedAlert>(one).map_err(|error| error.to_string());
            match posted.and_then(|posted| posted.complete(&reading)) {
                Ok(alert) => alerts.push(alert),
                Err(fault) => faults.push(fault),
            }
        }
        (alerts, (!faults.is_empty()).then(|| faults.join("\n")))
    }

    /// What is put aside of it.
    pub fn letter(&self, reason: &str) -> String {
        let at = model::format_rfc3339_ms(self.at_ms);
        json!({"reason": reason, "place": self.place, "key": self.key, "value": self.value, "at": at}).to_string()
    }
}

fn ended(alert: &Alert, at_ms: i64) -> Alert {
    Alert { ends_at_ms: at_ms.max(alert.starts_at_ms), updated_at_ms: at_ms, timeout: false, ..alert.clone() }
}

/// An alert as it is posted.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PostedAlert {
    labels: Labels,
    annotations: Option<Labels>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    #[serde(rename = "generatorURL")]
    generator_url: Option<String>,
}

impl PostedAlert {
    /// Fills in what was not sent: a start (the end, or now), an end (assumed: now + resolve_timeout).
    pub fn complete(self, reading: &Reading) -> Result<Alert, String> {
        let Reading { mode, now_ms, resolve_timeout_ms } = *reading;
        let (starts, ends) = (instant("startsAt", &self.starts_at)?, instant("endsAt", &self.ends_at)?);
        let alert = Alert {
            labels: self.labels,
            annotations: self.annotations.unwrap_or_default(),
            starts_at_ms: starts.or(ends).unwrap_or(now_ms),
            ends_at_ms: ends.unwrap_or(now_ms.saturating_add(resolve_timeout_ms)),
            updated_at_ms: now_ms,
            generator_url: self.generator_url.unwrap_or_default(),
            timeout: ends.is_none(),
        };
        if alert.ends_at_ms < alert.starts_at_ms {
            return Err("start time must be before end time".to_owned());
        }
        if alert.labels.is_empty() {
            return Err("at least one label pair required".to_owned());
        }
        check_names(mode, &alert.labels).map_err(|error| format!("invalid label set: {error}"))?;
        check_names(mode, &alert.annotations).map_err(|error| format!("invalid annotations: {error}"))?;
        Ok(alert)
    }
}

fn check_names(mode: MatcherMode, labels: &Labels) -> Result<(), String> {
    match labels.iter().find(|label| !mode.is_valid_name(&label.name)) {
        Some(label) => Err(format!("invalid name {:?}", label.name)),
        None => Ok(()),
    }
}

/// Go's zero time, 0001-01-01T00:00:00Z.
const GO_ZERO_MS: i64 = -62_135_596_800_000;

/// RFC 3339; empty and Go's zero time mean "not sent".
fn instant(field: &str, text: &Option<String>) -> Result<Option<i64>, String> {
    let Some(text) = text.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
    let at_ms = parse_time_ms(text).ok_or_else(|| format!("{field}: {text:?} is no RFC 3339 time"))?;
    Ok(Some(at_ms).filter(|ms| *ms != GO_ZERO_MS))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::state::Event;

    const READING: Reading = Reading { mode: MatcherMode::Fallback, now_ms: 1_000_000, resolve_timeout_ms: 5_000 };

    /// Start, end and whether the end is assumed, at 1000 s with a timeout of 5 s.
    fn check(text: &str, expected: Result<(i64, i64, bool), &str>) {
        let posted: PostedAlert = serde_json::from_str(text).expect("JSON");
        let got = posted.complete(&READING);
        let got = got.map(|alert| (alert.starts_at_ms, alert.ends_at_ms, alert.timeout));
        assert_eq!(got.as_ref().map_err(String::as_str), expected.as_ref().map_err(|error| *error), "{text}");
    }

    #[test]
    fn what_was_not_sent_is_filled_in() {
        check(r#"{"labels":{"a":"b"}}"#, Ok((1_000_000, 1_005_000, true)));
        check(r#"{"labels":{"a":"b"},"startsAt":"1970-01-01T00:00:01Z"}"#, Ok((1_000, 1_005_000, true)));
        check(r#"{"labels":{"a":"b"},"endsAt":"1970-01-01T00:20:00Z"}"#, Ok((1_200_000, 1_200_000, false)));
        check(
            r#"{"labels":{"a":"b"},"startsAt":"0001-01-01T00:00:00Z","endsAt":"","annotations":null}"#,
            Ok((1_000_000, 1_005_000, true)),
        );
        check(
            r#"{"labels":{"a":"b"},"startsAt":"1970-01-01T00:20:00Z","endsAt":"1970-01-01T00:00:01Z"}"#,
            Err("start time must be before end time"),
        );
        let odd = r#"{"labels":{"a":"b"},"startsAt":"0001-01-01T00:00:01.000Z"}"#;
        check(odd, Ok((GO_ZERO_MS + 1_000, 1_005_000, true)));
        check(r#"{"labels":{"a":""}}"#, Err("at least one label pair required"));
        check(r#"{"labels":{"":"b"}}"#, Err("invalid label set: invalid name \"\""));
        check(r#"{"labels":{"a":"b"},"annotations":{"":"b"}}"#, Err("invalid annotations: invalid name \"\""));
        check(r#"{"labels":{"a":"b"},"startsAt":"noon"}"#, Err("startsAt: \"noon\" is no RFC 3339 time"));
    }

    /// How many alerts a message holds, and what is wrong with the rest.
    fn check_plain(key: &str, value: &str, expected: (usize, Option<&str>)) {
        let plain = Plain { place: "t/0/1".into(), key: key.into(), value: value.into(), at_ms: 900_000 };
        let mut state = State::default();
        let known: PostedAlert = serde_json::from_str(r#"{"labels":{"a":"b"}}"#).expect("JSON");
        state.apply(Event::Alert(Arc::new(known.complete(&READING).expect("an alert"))));
        let (alerts, fault) = plain.read(&state, &READING);
        assert_eq!(alerts.len(), expected.0, "{value}");
        match (&fault, expected.1) {
            (Some(fault), Some(part)) => assert!(fault.contains(part), "{fault} does not say {part:?}"),
            (fault, expected) => assert_eq!(fault.as_deref(), expected, "{value}"),
        }
        assert!(alerts.iter().all(|alert| alert.updated_at_ms == 900_000), "the time is the message's");
    }

    #[test]
    fn a_message_is_an_alert_or_several_or_says_why_not() {
        check_plain("", r#"{"labels":{"a":"b"}}"#, (1, None));
        check_plain("", r#" [{"labels":{"a":"b"}},{"labels":{"a":"c"},"endsAt":"1970-01-01T00:00:01Z"}]"#, (2, None));
        check_plain("", r#"[7, {"labels":{"a":"b"}}]"#, (1, Some("invalid type: integer `7`")));
        check_plain("", r#"[{"labels":{"a":"b"}},{"labels":{}}]"#, (1, Some("at least one label pair required")));
        check_plain("", "[]", (0, None));
        check_plain("", "down!", (0, Some("expected value")));
        check_plain("", r#"{"alertname":"Down"}"#, (0, Some("at least one label pair required")));
        check_plain("", "", (0, Some("its key is no fingerprint")));
        check_plain("0123456789abcdef", "", (0, None));
        let known = Labels::from_pairs([("a", "b")]);
        check_plain(&Fingerprint::of(&known).to_string(), "", (1, None));
    }
}
