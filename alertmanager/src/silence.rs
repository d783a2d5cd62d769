//! Silences: matchers and a time span in which what they match is not told.

use std::collections::BTreeMap;

use model::{Labels, MatchOp, Matcher, format_rfc3339_ms, matches_all};
use serde::{Deserialize, Serialize};

/// A matcher as the API has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiMatcher {
    pub name: String,
    pub value: String,
    pub is_regex: bool,
    #[serde(default = "yes")]
    pub is_equal: bool,
}

fn yes() -> bool {
    true
}

impl ApiMatcher {
    pub fn compile(&self) -> Result<Matcher, String> {
        let op = match (self.is_regex, self.is_equal) {
            (false, true) => MatchOp::Equal,
            (false, false) => MatchOp::NotEqual,
            (true, true) => MatchOp::Regex,
            (true, false) => MatchOp::NotRegex,
        };
        Matcher::new(self.name.clone(), op, self.value.clone()).map_err(|error| error.to_string())
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    pub id: String,
    pub matchers: Vec<ApiMatcher>,
    pub starts_at_ms: i64,
    pub ends_at_ms: i64,
    pub updated_at_ms: i64,
    pub created_by: String,
    pub comment: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SilenceState {
    Pending,
    Active,
    Expired,
}

impl Silence {
    pub fn state_at(&self, now_ms: i64) -> SilenceState {
        if now_ms < self.starts_at_ms {
            SilenceState::Pending
        } else if now_ms < self.ends_at_ms {
            SilenceState::Active
        } else {
            SilenceState::Expired
        }
    }

    /// What makes no sense, said as Alertmanager says it.
    pub fn check(&self) -> Result<(), String> {
        if self.matchers.is_empty() {
            return Err("invalid silence: at least one matcher required".to_owned());
        }
        let compiled: Vec<Matcher> = self.matchers.iter().map(ApiMatcher::compile).collect::<Result<_, _>>()?;
        if compiled.iter().all(Matcher::matches_empty) {
            return Err("invalid silence: at least one matcher must not match the empty string".to_owned());
        }
        if self.ends_at_ms <= self.starts_at_ms {
            return Err("invalid silence: end time must not be before start time".to_owned());
        }
        Ok(())
    }
}

/// All silences, with compiled matchers.
#[derive(Debug, Clone, Default)]
pub struct Silences {
    by_id: BTreeMap<String, (Silence, Vec<Matcher>)>,
}

/// The bound on silences kept, expired ones included.
pub const MAX_SILENCES: usize = 100_000;

impl Silences {
    /// Takes a silence as it is from now on. One that does not compile never gets here but from a newer version.
    pub fn put(&mut self, silence: Silence) {
        match silence.matchers.iter().map(ApiMatcher::compile).collect::<Result<Vec<_>, _>>() {
            Ok(matchers) => drop(self.by_id.insert(silence.id.clone(), (silence, matchers))),
            Err(error) => tracing::error!(error, id = silence.id, "a silence on the bus cannot be used"),
        }
    }

    pub fn get(&self, id: &str) -> Option<&Silence> {
        self.by_id.get(id).map(|(silence, _)| silence)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Silence> {
        self.by_id.values().map(|(silence, _)| silence)
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Ids of the active silences that match.
    pub fn matching(&self, labels: &Labels, now_ms: i64) -> Vec<String> {
        let active = self.by_id.values().filter(|(silence, _)| silence.state_at(now_ms) == SilenceState::Active);
        active.filter(|(_, matchers)| matches_all(matchers, labels)).map(|(silence, _)| silence.id.clone()).collect()
    }

    /// Forgets what expired before an instant.
    pub fn forget(&mut self, expired_before_ms: i64) {
        self.by_id.retain(|_, (silence, _)| silence.ends_at_ms >= expired_before_ms);
    }

    /// What a posted silence does: the silences to write, the last of which is the one that was asked for. An update in
    /// place only where the matchers are the same and its past does not change; else the old one expires.
    pub fn plan(&self, mut wanted: Silence, now_ms: i64, new_id: String) -> Result<Vec<Silence>, PlanError> {
        wanted.check().map_err(PlanError::Invalid)?;
        wanted.updated_at_ms = now_ms;
        let mut writes = Vec::new();
        if !wanted.id.is_empty() {
            let Some(old) = self.get(&wanted.id) else { return Err(PlanError::Unknown(wanted.id)) };
            if can_update(old, &wanted, now_ms) {
                return Ok(vec![wanted]);
            }
            writes.extend(expire(old, now_ms));
        }
        if self.len() >= MAX_SILENCES {
            return Err(PlanError::Invalid(format!("exceeded maximum number of silences: {MAX_SILENCES}")));
        }
        if wanted.ends_at_ms <= now_ms {
            return Err(PlanError::Invalid("invalid silence: end time can't be in the past".to_owned()));
        }
        wanted.starts_at_ms = wanted.starts_at_ms.max(now_ms);
        wanted.id = new_id;
        writes.push(wanted);
        Ok(writes)
    }
}

#[derive(Debug, PartialEq)]
pub enum PlanError {
    Unknown(String),
    Invalid(String),
}

fn can_update(old: &Silence, new: &Silence, now_ms: i64) -> bool {
    if old.matchers != new.matchers {
        return false;
    }
    match old.state_at(now_ms) {
        SilenceState::Active => new.starts_at_ms / 1000 == old.starts_at_ms / 1000 && new.ends_at_ms >= now_ms,
        SilenceState::Pending => new.starts_at_ms >= now_ms,
        SilenceState::Expired => false,
    }
}

/// The silence ended now; nothing when it has ended already.
pub fn expire(silence: &Silence, now_ms: i64) -> Option<Silence> {
    let mut ended = Silence { updated_at_ms: now_ms, ends_at_ms: now_ms, ..silence.clone() };
    match silence.state_at(now_ms) {
        SilenceState::Expired => return None,
        SilenceState::Active => {}
        SilenceState::Pending => ended.starts_at_ms = now_ms,
    }
    Some(ended)
}

/// As `GET /api/v2/silence/{id}` shows it.
pub fn to_api(silence: &Silence, now_ms: i64) -> serde_json::Value {
    serde_json::json!({
        "id": silence.id,
        "status": {"state": silence.state_at(now_ms)},
        "updatedAt": format_rfc3339_ms(silence.updated_at_ms),
        "comment": silence.comment,
        "createdBy": silence.created_by,
        "startsAt": format_rfc3339_ms(silence.starts_at_ms),
        "endsAt": format_rfc3339_ms(silence.ends_at_ms),
        "matchers": silence.matchers,
        "annotations": {},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence(id: &str, value: &str, starts_at_ms: i64, ends_at_ms: i64) -> Silence {
        let matcher = ApiMatcher { name: "a".into(), value: value.into(), is_regex: false, is_equal: true };
        let (created_by, comment) = ("me".to_owned(), "why".to_owned());
        Silence {
            id: id.into(),
            matchers: vec![matcher],
            starts_at_ms,
            ends_at_ms,
            updated_at_ms: 0,
            created_by,
            comment,
        }
    }

    fn check(wanted: Silence, now_ms: i64, expected: &[(&str, i64, i64)]) {
        let mut silences = Silences::default();
        silences.put(silence("active", "x", 1_000, 9_000));
        silences.put(silence("pending", "x", 5_000, 9_000));
        let plan = silences.plan(wanted, now_ms, "new".into()).expect("a plan");
        let plan: Vec<_> = plan.iter().map(|one| (one.id.as_str(), one.starts_at_ms, one.ends_at_ms)).collect();
        assert_eq!(plan, expected);
    }

    #[test]
    fn updates_in_place_only_where_the_past_stays() {
        check(silence("", "x", 0, 9_000), 2_000, &[("new", 2_000, 9_000)]);
        check(silence("active", "x", 1_000, 12_000), 2_000, &[("active", 1_000, 12_000)]);
        check(silence("active", "y", 1_000, 12_000), 2_000, &[("active", 1_000, 2_000), ("new", 2_000, 12_000)]);
        check(silence("active", "x", 3_000, 12_000), 2_000, &[("active", 1_000, 2_000), ("new", 3_000, 12_000)]);
        check(silence("pending", "x", 4_000, 12_000), 2_000, &[("pending", 4_000, 12_000)]);
        check(silence("active", "x", 1_000, 12_000), 9_500, &[("new", 9_500, 12_000)]);
    }

    #[test]
    fn nonsense_is_refused() {
        let silences = Silences::default();
        let plan = |wanted| silences.plan(wanted, 2_000, "new".into());
        assert!(matches!(plan(silence("", "", 0, 9_000)), Err(PlanError::Invalid(_))));
        assert!(matches!(plan(silence("", "x", 0, 1_000)), Err(PlanError::Invalid(_))));
        assert!(matches!(plan(silence("", "x", 5_000, 4_000)), Err(PlanError::Invalid(_))));
        assert_eq!(plan(silence("gone", "x", 0, 9_000)), Err(PlanError::Unknown("gone".into())));
    }

    #[test]
    fn only_active_ones_match() {
        let mut silences = Silences::default();
        silences.put(silence("s", "x", 1_000, 9_000));
        let labels = Labels::from_pairs([("a", "x")]);
        assert_eq!(silences.matching(&labels, 2_000), ["s"]);
        assert!(silences.matching(&labels, 9_000).is_empty());
        assert!(silences.matching(&Labels::default(), 2_000).is_empty());
    }
}
