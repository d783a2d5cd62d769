//! Silences: matchers and a time span in which what they match is not told.
//!
//! Beside Alertmanager's there may be several sets of matchers, of which one must match as a whole, and time intervals:
//! then the silence is active only within them.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Labels, MatchOp, Matcher, format_rfc3339_ms, matches_all};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::index::MatchIndex;
use crate::matchers::MatcherMode;
use crate::time_interval::TimeInterval;

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
    pub fn op(&self) -> MatchOp {
        match (self.is_regex, self.is_equal) {
            (false, true) => MatchOp::Equal,
            (false, false) => MatchOp::NotEqual,
            (true, true) => MatchOp::Regex,
            (true, false) => MatchOp::NotRegex,
        }
    }

    fn compile(&self) -> Result<Matcher, String> {
        let compiled = Matcher::new(self.name.clone(), self.op(), self.value.clone());
        compiled.map_err(|error| format!("invalid regular expression {:?}: {}", self.value, error.reason))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    pub id: String,
    /// One of these must match as a whole.
    pub matcher_sets: Vec<Vec<ApiMatcher>>,
    /// As written; none means at any time.
    #[serde(default)]
    pub time_intervals: Vec<Value>,
    pub starts_at_ms: i64,
    pub ends_at_ms: i64,
    pub updated_at_ms: i64,
    pub created_by: String,
    pub comment: String,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SilenceState {
    Pending,
    Active,
    Expired,
}

/// Compiles sets of matchers; errors as Alertmanager words them.
pub fn compile_sets(sets: &[Vec<ApiMatcher>]) -> Result<Vec<Vec<Matcher>>, String> {
    if sets.is_empty() {
        return Err("at least one matcher set required".to_owned());
    }
    let mut compiled = Vec::new();
    for (set, matchers) in sets.iter().enumerate() {
        if matchers.is_empty() {
            return Err(format!("matcher set {set} is empty"));
        }
        let one = |(i, matcher): (usize, &ApiMatcher)| {
            matcher.compile().map_err(|error| format!("invalid label matcher {i} in set {set}: {error}"))
        };
        let matchers: Vec<Matcher> = matchers.iter().enumerate().map(one).collect::<Result<_, _>>()?;
        if matchers.iter().all(Matcher::matches_empty) {
            return Err(format!("matcher set {set}: at least one matcher must not match the empty string"));
        }
        compiled.push(matchers);
    }
    Ok(compiled)
}

/// A silence ready to be asked.
#[derive(Debug, Clone)]
pub struct Compiled {
    pub silence: Silence,
    pub sets: Vec<Vec<Matcher>>,
    intervals: Vec<TimeInterval>,
}

impl Compiled {
    pub fn new(silence: Silence) -> Result<Compiled, String> {
        let sets = compile_sets(&silence.matcher_sets)?;
        let interval = |value: &Value| serde_json::from_value::<TimeInterval>(value.clone());
        let intervals = silence.time_intervals.iter().map(interval).collect::<Result<_, _>>();
        let intervals = intervals.map_err(|error| format!("invalid time interval: {error}"))?;
        Ok(Compiled { silence, sets, intervals })
    }

    pub fn state_at(&self, now_ms: i64) -> SilenceState {
        if now_ms >= self.silence.ends_at_ms {
            SilenceState::Expired
        } else if now_ms < self.silence.starts_at_ms || !self.is_its_time(now_ms) {
            SilenceState::Pending
        } else {
            SilenceState::Active
        }
    }

    fn is_its_time(&self, now_ms: i64) -> bool {
        self.intervals.is_empty() || self.intervals.iter().any(|interval| interval.contains(now_ms))
    }

    /// As `GET /api/v2/silence/{id}` shows it.
    pub fn to_api(&self, now_ms: i64) -> Value {
        let silence = &self.silence;
        let mut shown = json!({
            "id": silence.id,
            "status": {"state": self.state_at(now_ms)},
            "updatedAt": format_rfc3339_ms(silence.updated_at_ms),
            "comment": silence.comment,
            "createdBy": silence.created_by,
            "startsAt": format_rfc3339_ms(silence.starts_at_ms),
            "endsAt": format_rfc3339_ms(silence.ends_at_ms),
            "matchers": silence.matcher_sets.first(),
            "annotations": silence.annotations,
        });
        if silence.matcher_sets.len() > 1 {
            shown["matcherSets"] = json!(silence.matcher_sets);
        }
        if !silence.time_intervals.is_empty() {
            shown["timeIntervals"] = silence.time_intervals.clone().into();
        }
        shown
    }
}

/// The first name among sets of matchers that a label cannot have, worded as Alertmanager does.
pub fn check_names(sets: &[Vec<ApiMatcher>], mode: MatcherMode) -> Result<(), String> {
    for (set, matchers) in sets.iter().enumerate() {
        if let Some(i) = matchers.iter().position(|matcher| !mode.is_valid_name(&matcher.name)) {
            return Err(format!("invalid label matcher {i} in set {set}: invalid label name {:?}", matchers[i].name));
        }
    }
    Ok(())
}

/// How much may be kept; 0 is no limit of the user's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct SilenceLimits {
    /// Expired ones included.
    pub count: usize,
    pub size_bytes: usize,
}

/// The bound on silences kept, expired ones included, whatever the flags say.
const MAX_SILENCES: usize = 1_000_000;
const MAX_SILENCE_BYTES: usize = 1 << 20;

/// All silences.
#[derive(Debug, Default)]
pub struct Silences {
    by_id: BTreeMap<String, Arc<Compiled>>,
    index: MatchIndex<String>,
}

impl Silences {
    /// Takes a silence as it is from now on. One that does not compile never gets here but from a newer version.
    pub fn put(&mut self, silence: Silence) {
        let id = silence.id.clone();
        match Compiled::new(silence) {
            Ok(compiled) => {
                self.unfile(&id);
                compiled.sets.iter().for_each(|set| self.index.insert(set, id.clone()));
                self.by_id.insert(id, Arc::new(compiled));
            }
            Err(error) => tracing::error!(error, id, "a silence on the bus cannot be used"),
        }
    }

    fn unfile(&mut self, id: &String) {
        if let Some(old) = self.by_id.get(id) {
            old.sets.iter().for_each(|set| self.index.remove(set, id));
        }
    }

    pub fn get(&self, id: &str) -> Option<&Arc<Compiled>> {
        self.by_id.get(id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Compiled>> {
        self.by_id.values()
    }

    /// Ids of the active silences that match.
    pub fn matching(&self, labels: &Labels, now_ms: i64) -> Vec<String> {
        let silences = self.index.candidates(labels).filter_map(|id| self.by_id.get(id));
        let matches = |one: &&Arc<Compiled>| {
            one.sets.iter().any(|set| matches_all(set, labels)) && one.state_at(now_ms) == SilenceState::Active
        };
        let mut found: Vec<String> = silences.filter(matches).map(|one| one.silence.id.clone()).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Whether any active silence matches.
    pub fn is_silenced(&self, labels: &Labels, now_ms: i64) -> bool {
        self.index.candidates(labels).filter_map(|id| self.by_id.get(id)).any(|one| {
            one.sets.iter().any(|set| matches_all(set, labels)) && one.state_at(now_ms) == SilenceState::Active
        })
    }

    /// Forgets what expired before an instant.
    pub fn forget(&mut self, expired_before_ms: i64) {
        let is_old = |one: &Arc<Compiled>| one.silence.ends_at_ms < expired_before_ms;
        let old: Vec<String> = self.iter().filter(|one| is_old(one)).map(|one| one.silence.id.clone()).collect();
        for id in old {
            self.unfile(&id);
            self.by_id.remove(&id);
        }
    }

    /// What a posted silence does: the silences to write, the last of which is the one that was asked for. An update in
    /// place only where the matchers are the same and its past does not change; else the old one expires.
    pub fn plan(
        &self,
        mut wanted: Silence,
        limits: SilenceLimits,
        now_ms: i64,
        new_id: String,
    ) -> Result<Vec<Silence>, PlanError> {
        let invalid = |message: String| PlanError::Invalid(message);
        if wanted.starts_at_ms >= wanted.ends_at_ms {
            return Err(invalid("Failed to create silence: start time must be before end time".to_owned()));
        }
        if wanted.ends_at_ms < now_ms {
            return Err(invalid("Failed to create silence: end time can't be in the past".to_owned()));
        }
        Compiled::new(wanted.clone()).map_err(|error| invalid(format!("invalid silence: {error}")))?;
        wanted.updated_at_ms = now_ms;
        let mut writes = Vec::new();
        if !wanted.id.is_empty() {
            let old = self.get(&wanted.id).ok_or(PlanError::Unknown)?;
            if can_update(old, &wanted, now_ms) {
                check_size(&wanted, limits)?;
                return Ok(vec![wanted]);
            }
            writes.extend(expire(old, now_ms));
        }
        let max = if limits.count == 0 { MAX_SILENCES } else { limits.count.min(MAX_SILENCES) };
        if self.by_id.len() >= max {
            let count = self.by_id.len();
            return Err(invalid(format!("exceeded maximum number of silences: {count} (limit: {max})")));
        }
        wanted.starts_at_ms = wanted.starts_at_ms.max(now_ms);
        wanted.id = new_id;
        check_size(&wanted, limits)?;
        writes.push(wanted);
        Ok(writes)
    }
}

fn check_size(silence: &Silence, limits: SilenceLimits) -> Result<(), PlanError> {
    let max = if limits.size_bytes == 0 { MAX_SILENCE_BYTES } else { limits.size_bytes.min(MAX_SILENCE_BYTES) };
    let size = serde_json::to_string(silence).map_or(0, |text| text.len());
    if size > max {
        return Err(PlanError::Invalid(format!("silence exceeded maximum size: {size} bytes (limit: {max} bytes)")));
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
pub enum PlanError {
    Unknown,
    Invalid(String),
}

fn can_update(old: &Compiled, new: &Silence, now_ms: i64) -> bool {
    let known = &old.silence;
    if known.matcher_sets != new.matcher_sets || known.time_intervals != new.time_intervals {
        return false;
    }
    if now_ms < known.starts_at_ms {
        return new.starts_at_ms >= now_ms;
    }
    now_ms < known.ends_at_ms && new.starts_at_ms / 1000 == known.starts_at_ms / 1000 && new.ends_at_ms >= now_ms
}

/// The silence ended now; nothing when it has ended already.
pub fn expire(old: &Compiled, now_ms: i64) -> Option<Silence> {
    let silence = &old.silence;
    let starts_at_ms = silence.starts_at_ms.min(now_ms);
    let ended = Silence { updated_at_ms: now_ms, starts_at_ms, ends_at_ms: now_ms, ..silence.clone() };
    (old.state_at(now_ms) != SilenceState::Expired).then_some(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence(id: &str, value: &str, starts_at_ms: i64, ends_at_ms: i64) -> Silence {
        let matcher = ApiMatcher { name: "a".into(), value: value.into(), is_regex: false, is_equal: true };
        Silence {
            id: id.into(),
            matcher_sets: vec![vec![matcher]],
            time_intervals: Vec::new(),
            starts_at_ms,
            ends_at_ms,
            updated_at_ms: 0,
            created_by: "me".to_owned(),
            comment: "why".to_owned(),
            annotations: BTreeMap::new(),
        }
    }

    fn plan(wanted: Silence, now_ms: i64, limits: SilenceLimits) -> Result<Vec<Silence>, PlanError> {
        let mut silences = Silences::default();
        silences.put(silence("active", "x", 1_000, 9_000));
        silences.put(silence("pending", "x", 5_000, 9_000));
        silences.plan(wanted, limits, now_ms, "new".into())
    }

    fn check(wanted: Silence, now_ms: i64, expected: &[(&str, i64, i64)]) {
        let plan = plan(wanted, now_ms, SilenceLimits::default()).expect("a plan");
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
        check(silence("pending", "y", 4_000, 12_000), 2_000, &[("pending", 2_000, 2_000), ("new", 4_000, 12_000)]);
        check(silence("active", "x", 1_000, 12_000), 9_500, &[("new", 9_500, 12_000)]);
    }

    fn refused(wanted: Silence, limits: SilenceLimits, expected: &str) {
        assert_eq!(plan(wanted, 2_000, limits), Err(PlanError::Invalid(expected.to_owned())));
    }

    #[test]
    fn nonsense_is_refused() {
        let none = SilenceLimits::default();
        let empty = "invalid silence: matcher set 0: at least one matcher must not match the empty string";
        refused(silence("", "", 0, 9_000), none, empty);
        refused(silence("", "x", 0, 1_000), none, "Failed to create silence: end time can't be in the past");
        refused(silence("", "x", 5_000, 4_000), none, "Failed to create silence: start time must be before end time");
        let bare = Silence { matcher_sets: vec![Vec::new()], ..silence("", "x", 0, 9_000) };
        refused(bare, none, "invalid silence: matcher set 0 is empty");
        let limits = SilenceLimits { count: 2, size_bytes: 0 };
        refused(silence("", "x", 0, 9_000), limits, "exceeded maximum number of silences: 2 (limit: 2)");
        let limits = SilenceLimits { count: 0, size_bytes: 10 };
        assert!(matches!(plan(silence("", "x", 0, 9_000), 2_000, limits), Err(PlanError::Invalid(_))));
        assert_eq!(plan(silence("gone", "x", 0, 9_000), 2_000, none), Err(PlanError::Unknown));
        let odd = Silence { time_intervals: vec![json!({"weekdays": ["moonday"]})], ..silence("", "x", 0, 9_000) };
        assert!(matches!(plan(odd, 2_000, none), Err(PlanError::Invalid(_))));
    }

    fn matching(silence: Silence, labels: &[(&str, &str)], now_ms: i64) -> bool {
        let mut silences = Silences::default();
        silences.put(silence);
        let labels = Labels::from_pairs(labels.iter().copied());
        let found = silences.matching(&labels, now_ms);
        assert_eq!(silences.is_silenced(&labels, now_ms), !found.is_empty());
        !found.is_empty()
    }

    #[test]
    fn only_active_ones_match() {
        let one = || silence("s", "x", 1_000, 9_000);
        assert!(matching(one(), &[("a", "x")], 2_000));
        assert!(!matching(one(), &[("a", "x")], 9_000));
        assert!(!matching(one(), &[], 2_000));
    }

    #[test]
    fn one_of_the_sets_must_match_as_a_whole() {
        let matcher = |name: &str, value: &str| ApiMatcher {
            name: name.into(),
            value: value.into(),
            is_regex: true,
            is_equal: true,
        };
        let sets = vec![vec![matcher("a", "1"), matcher("b", "1")], vec![matcher("c", ".+")]];
        let one = || Silence { matcher_sets: sets.clone(), ..silence("s", "x", 1_000, 9_000) };
        assert!(matching(one(), &[("a", "1"), ("b", "1")], 2_000));
        assert!(!matching(one(), &[("a", "1")], 2_000));
        assert!(matching(one(), &[("c", "9")], 2_000));
    }

    /// 1970-01-01 was a Thursday.
    #[test]
    fn a_recurring_silence_is_active_in_its_times_only() {
        let interval = json!({"times": [{"start_time": "01:00", "end_time": "02:00"}], "weekdays": ["thursday"]});
        let one = || Silence { time_intervals: vec![interval.clone()], ..silence("s", "x", 1_000, i64::MAX) };
        assert!(!matching(one(), &[("a", "x")], 2_000));
        assert!(matching(one(), &[("a", "x")], 3_600_000));
        assert!(!matching(one(), &[("a", "x")], 86_400_000 + 3_600_000));
        assert!(matching(one(), &[("a", "x")], 7 * 86_400_000 + 3_600_000));
    }

    #[test]
    fn what_is_forgotten_leaves_the_index() {
        let mut silences = Silences::default();
        silences.put(silence("s", "x", 1_000, 9_000));
        silences.forget(9_001);
        assert!(silences.get("s").is_none());
        assert_eq!(silences.index.candidates(&Labels::from_pairs([("a", "x")])).count(), 0);
    }
}
