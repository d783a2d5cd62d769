//! `/api/v1/rules`, `/api/v1/alerts`, `/api/v1/alertmanagers`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use model::{Labels, Matcher, matches_all};
use rules::{GroupStatus, RuleStatus};
use serde_json::{Value, json};
use service::http::{ApiError, Params};

use super::{Process, invalid, selector, success};
use crate::rules::alert_urls;
use crate::shared::Shared;

pub fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v1/rules", get(list))
        .route("/api/v1/alerts", get(alerts))
        .route("/api/v1/alertmanagers", get(alertmanagers))
}

/// What a request for rules leaves in.
struct Filter {
    alerts: bool,
    recordings: bool,
    without_alerts: bool,
    names: Vec<String>,
    groups: Vec<String>,
    files: Vec<String>,
    /// Alternatives, of which one must match the rule's labels.
    selectors: Vec<Vec<Matcher>>,
    page: Option<Page>,
}

/// `group_limit` groups from the one that `group_next_token` names.
struct Page {
    limit: usize,
    token: Option<String>,
}

impl Filter {
    fn parse(params: &Params) -> Result<Filter, ApiError> {
        let all = |name: &'static str| params.get_all(name).map(str::to_owned).collect::<Vec<_>>();
        let kind = params.get("type").unwrap_or("").to_lowercase();
        if !matches!(kind.as_str(), "" | "alert" | "record") {
            return Err(invalid("type", format_args!("not supported value \"{kind}\"")));
        }
        let without_alerts = match params.get("exclude_alerts").map(str::to_lowercase).as_deref() {
            None | Some("false" | "f" | "0") => false,
            Some("true" | "t" | "1") => true,
            Some(other) => {
                return Err(invalid("exclude_alerts", format_args!("error converting exclude_alerts: {other:?}")));
            }
        };
        Ok(Filter {
            alerts: kind != "record",
            recordings: kind != "alert",
            without_alerts,
            names: all("rule_name[]"),
            groups: all("rule_group[]"),
            files: all("file[]"),
            selectors: params.get_all("match[]").map(|text| selector(text, "match[]")).collect::<Result<_, _>>()?,
            page: page(params)?,
        })
    }

    fn takes_group(&self, group: &GroupStatus) -> bool {
        let listed = |list: &[String], item: &String| list.is_empty() || list.contains(item);
        listed(&self.groups, &group.name) && listed(&self.files, &group.file)
    }

    fn takes_rule(&self, rule: &RuleStatus) -> bool {
        let of_kind = if rule.is_alert { self.alerts } else { self.recordings };
        let named = self.names.is_empty() || self.names.contains(&rule.name);
        let labels = || Labels::from_pairs(rule.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let matches = |labels: Labels| self.selectors.iter().any(|matchers| matches_all(matchers, &labels));
        of_kind && named && (self.selectors.is_empty() || matches(labels()))
    }

    /// The group with the rules that are asked for; `None` where none is left.
    fn narrowed(&self, mut group: GroupStatus) -> Option<GroupStatus> {
        group.rules.retain(|rule| self.takes_rule(rule));
        if self.without_alerts {
            group.rules.iter_mut().for_each(|rule| rule.alerts.clear());
        }
        (!group.rules.is_empty()).then_some(group)
    }
}

fn page(params: &Params) -> Result<Option<Page>, ApiError> {
    let token = params.get("group_next_token").map(str::to_owned);
    let Some(limit) = params.get("group_limit") else {
        let reason = "group_limit needs to be present in order to paginate over the groups";
        return if token.is_some() { Err(invalid("group_next_token", reason)) } else { Ok(None) };
    };
    let limit: i64 = limit
        .parse()
        .map_err(|error| invalid("group_limit", format_args!("group_limit needs to be a valid number: {error}")))?;
    if limit <= 0 {
        return Err(invalid("group_limit", "group_limit needs to be greater than 0"));
    }
    Ok(Some(Page { limit: limit as usize, token }))
}

fn token_of(group: &GroupStatus) -> String {
    let mut hasher = DefaultHasher::new();
    (&group.file, &group.name).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

async fn list(State(shared): Process, params: Params) -> Result<Json<Value>, ApiError> {
    let filter = Filter::parse(&params)?;
    let groups = shared.rules.as_ref().map(|rules| rules.groups()).unwrap_or_default();
    chosen(groups, &filter).map(success)
}

fn chosen(groups: Vec<GroupStatus>, filter: &Filter) -> Result<Value, ApiError> {
    let mut groups = groups.into_iter();
    let token = filter.page.as_ref().and_then(|page| page.token.as_ref());
    let first = match token {
        Some(token) => Some(groups.find(|group| token_of(group) == *token).ok_or_else(|| {
            let reason = format!("invalid group_next_token '{token}'. were rule groups changed?");
            invalid("group_next_token", reason)
        })?),
        None => None,
    };
    let limit = filter.page.as_ref().map_or(usize::MAX, |page| page.limit);
    let (mut taken, mut next) = (Vec::new(), None);
    for group in first.into_iter().chain(groups).filter(|group| filter.takes_group(group)) {
        let Some(group) = filter.narrowed(group) else { continue };
        if taken.len() == limit {
            next = Some(token_of(&group));
            break;
        }
        taken.push(group);
    }
    let mut data = json!({"groups": taken});
    if let Some(next) = next {
        data["groupNextToken"] = next.into();
    }
    Ok(data)
}

async fn alerts(State(shared): Process) -> Json<Value> {
    let alerts = shared.rules.as_ref().map(|rules| rules.alerts()).unwrap_or_default();
    success(json!({"alerts": alerts}))
}

async fn alertmanagers(State(shared): Process) -> Json<Value> {
    let elsewhere = shared.config().alerting.alertmanagers.iter().flat_map(alert_urls).collect::<Vec<_>>();
    let here = shared.alertmanager.as_ref().map(|_| format!("{}/api/v2/alerts", shared.settings.external_url()));
    let active: Vec<_> = elsewhere.into_iter().chain(here).map(|url| json!({"url": url})).collect();
    success(json!({"activeAlertmanagers": active, "droppedAlertmanagers": []}))
}

#[cfg(test)]
mod tests {
    use rules::{Kind, State};

    use super::*;

    fn group(name: &str, rules: &[(&str, bool)]) -> GroupStatus {
        let rule = |(name, is_alert): &(&str, bool)| RuleStatus {
            name: (*name).to_owned(),
            is_alert: *is_alert,
            kind: Kind::Promql,
            expr: "up".to_owned(),
            hold_ms: 0,
            keep_firing_ms: 0,
            labels: [("team".to_owned(), (*name).to_owned())].into(),
            annotations: Default::default(),
            alerts: Vec::new(),
            state: State::Inactive,
            error: None,
            evaluation_s: 0.0,
            last_evaluation_ms: 0,
        };
        GroupStatus {
            name: name.to_owned(),
            file: format!("{name}.yml"),
            interval_ms: 1000,
            limit: 0,
            rules: rules.iter().map(rule).collect(),
            evaluation_s: 0.0,
            last_evaluation_ms: 0,
        }
    }

    /// Answers `group: rule rule; …` and the token.
    fn ask(params: &str) -> Result<(String, Option<String>), String> {
        let groups =
            vec![group("a", &[("A", true), ("r", false)]), group("b", &[("B", true)]), group("c", &[("s", false)])];
        let filter = Filter::parse(&Params::parse(params)).map_err(|error| error.message)?;
        let data = chosen(groups, &filter).map_err(|error| error.message)?;
        let name = |value: &Value| value["name"].as_str().unwrap_or("").to_owned();
        let shown = data["groups"].as_array().expect("groups").iter().map(|group| {
            let rules: Vec<_> = group["rules"].as_array().expect("rules").iter().map(name).collect();
            format!("{}: {}", name(group), rules.join(" "))
        });
        let token = data.get("groupNextToken").and_then(Value::as_str).map(str::to_owned);
        Ok((shown.collect::<Vec<_>>().join("; "), token))
    }

    fn check(params: &str, expected: &str) {
        assert_eq!(ask(params).map(|(shown, _)| shown).unwrap_or_else(|error| error), expected, "{params}");
    }

    #[test]
    fn rules_are_filtered() {
        check("", "a: A r; b: B; c: s");
        check("type=alert", "a: A; b: B");
        check("type=Record", "a: r; c: s");
        check("rule_name[]=A&rule_name[]=s", "a: A; c: s");
        check("rule_group[]=b", "b: B");
        check("file[]=c.yml", "c: s");
        check("match[]={team=~\"A|B\"}", "a: A; b: B");
        check("type=x", "invalid parameter \"type\": not supported value \"x\"");
        check("match[]=sum(up)", "invalid parameter \"match[]\": \"sum(up)\" is not a series selector");
        check("group_limit=0", "invalid parameter \"group_limit\": group_limit needs to be greater than 0");
    }

    #[test]
    fn pages_follow_each_other() {
        let (first, token) = ask("group_limit=2").expect("a page");
        assert_eq!(first, "a: A r; b: B");
        let (second, end) = ask(&format!("group_limit=2&group_next_token={}", token.expect("more"))).expect("a page");
        assert_eq!((second.as_str(), end), ("c: s", None));
        assert!(ask("group_limit=2&group_next_token=x").expect_err("unknown").contains("were rule groups changed?"));
        assert!(ask("group_next_token=x").is_err());
    }
}
