//! Opsgenie: an alert by alias is created, brought up to date if asked to, and closed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::http::{Http, with_secret};
use super::render::{Render, filled, split};
use super::setting::{HttpUrl, Secret};
use super::{Configured, Global, Integration, Memory, NotifyError};
use service::http_config::HttpConfig;

const MAX_MESSAGE_RUNES: usize = 130;
const RESPONDERS: [&str; 5] = ["team", "teams", "user", "escalation", "schedule"];

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpsgenieConfig {
    send_resolved: bool,
    http_config: Option<HttpConfig>,
    api_key: String,
    api_key_file: Option<PathBuf>,
    api_url: Option<HttpUrl>,
    message: String,
    description: String,
    source: String,
    details: BTreeMap<String, String>,
    entity: String,
    responders: Vec<Responder>,
    actions: String,
    tags: String,
    note: String,
    priority: String,
    update_alerts: bool,
}

impl Default for OpsgenieConfig {
    fn default() -> Self {
        let template = |name: &str| format!("{{{{ template \"opsgenie.default.{name}\" . }}}}");
        OpsgenieConfig {
            send_resolved: true,
            http_config: None,
            api_key: String::new(),
            api_key_file: None,
            api_url: None,
            message: template("message"),
            description: template("description"),
            source: template("source"),
            details: BTreeMap::new(),
            entity: String::new(),
            responders: Vec::new(),
            actions: String::new(),
            tags: String::new(),
            note: String::new(),
            priority: String::new(),
            update_alerts: false,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Responder {
    id: String,
    name: String,
    username: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Responder {
    fn check(&self) -> Result<(), String> {
        let printed = format!("{{{} {} {} {}}}", self.id, self.name, self.username, self.kind);
        if self.id.is_empty() && self.username.is_empty() && self.name.is_empty() {
            return Err(format!(
                "opsGenieConfig responder {printed} has to have at least one of id, username or name specified"
            ));
        }
        if !self.kind.contains("{{") && !RESPONDERS.contains(&self.kind.to_lowercase().as_str()) {
            return Err(format!(
                "opsGenieConfig responder {printed} type does not match valid options \
                 ^(team|teams|user|escalation|schedule)$"
            ));
        }
        Ok(())
    }

    /// Whom it names: nobody where all is empty, several for `teams`.
    fn render(&self, render: &Render) -> Result<Vec<Json>, NotifyError> {
        let text = |template: &str| render.text(template);
        let (id, name, username) = (text(&self.id)?, text(&self.name)?, text(&self.username)?);
        let kind = text(&self.kind)?.to_lowercase();
        if id.is_empty() && name.is_empty() && username.is_empty() {
            return Ok(Vec::new());
        }
        if kind == "teams" {
            return Ok(split(&name).into_iter().map(|team| json!({"name": team, "type": "team"})).collect());
        }
        Ok(vec![filled([
            ("id", id.into()),
            ("name", name.into()),
            ("username", username.into()),
            ("type", kind.into()),
        ])])
    }
}

pub struct Opsgenie {
    config: OpsgenieConfig,
    url: HttpUrl,
    key: Secret,
    http: Arc<Http>,
}

impl Configured for OpsgenieConfig {
    fn build(mut self, global: &Global) -> Result<Integration, String> {
        let own = Secret::pick("api_key", &self.api_key, &self.api_key_file)?;
        self.responders.iter().try_for_each(Responder::check)?;
        let shared = Secret::pick("opsgenie_api_key", &global.opsgenie_api_key, &global.opsgenie_api_key_file)?;
        let key = own.or(shared).ok_or("no global OpsGenie API Key set either inline or in a file")?;
        let url = self.api_url.take().unwrap_or_else(|| global.opsgenie_api_url.clone());
        let http = global.http(self.http_config.take())?;
        Ok(Arc::new(Opsgenie { config: self, url, key, http }))
    }
}

impl Opsgenie {
    /// The address of something of the group's alert.
    fn of_alert(&self, alias: &str, what: &str) -> Url {
        let mut url = self.url.join(&format!("v2/alerts/{alias}/{what}"));
        url.set_query(Some("identifierType=alias"));
        url
    }

    fn creation(&self, render: &Render, alias: &str) -> Result<Json, NotifyError> {
        let config = &self.config;
        let text = |template: &str| render.text(template).map(Json::from);
        let common = render.notice.common_labels();
        let mut details: BTreeMap<String, String> =
            common.iter().map(|label| (label.name.to_string(), label.value.to_string())).collect();
        for (name, template) in &config.details {
            details.insert(name.clone(), render.text(template)?);
        }
        let responders: Result<Vec<Vec<Json>>, _> = config.responders.iter().map(|one| one.render(render)).collect();
        let mut alert = filled([
            ("description", text(&config.description)?),
            ("responders", responders?.concat().into()),
            ("tags", render.list(&config.tags)?.into()),
            ("note", text(&config.note)?),
            ("priority", text(&config.priority)?),
            ("entity", text(&config.entity)?),
            ("actions", render.list(&config.actions)?.into()),
        ]);
        alert["alias"] = alias.into();
        alert["message"] = render.cut("message", &config.message, MAX_MESSAGE_RUNES)?.into();
        alert["details"] = json!(details);
        alert["source"] = text(&config.source)?;
        Ok(alert)
    }

    /// What is to be said, in order.
    fn requests(&self, render: &Render) -> Result<Vec<(Method, Url, Json)>, NotifyError> {
        let alias = render.notice.key_hash();
        if !render.notice.is_firing() {
            let end = json!({ "source": render.text(&self.config.source)? });
            return Ok(vec![(Method::POST, self.of_alert(&alias, "close"), end)]);
        }
        let alert = self.creation(render, &alias)?;
        let field = |name: &str| filled([(name, alert[name].clone())]);
        let mut updates = Vec::new();
        if self.config.update_alerts {
            updates =
                ["message", "description"].map(|name| (Method::PUT, self.of_alert(&alias, name), field(name))).into();
        }
        let mut requests = vec![(Method::POST, self.url.join("v2/alerts"), alert)];
        requests.append(&mut updates);
        Ok(requests)
    }

    async fn deliver(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        let key = render.text(&self.key.read()?)?;
        for (method, url, body) in self.requests(render)? {
            let request = with_secret(self.http.request(method, url)?.json(&body), &format!("GenieKey {key}"));
            self.http.send(request).await?.check(&[])?;
        }
        Ok(Memory::new())
    }
}

over_http!(Opsgenie, "opsgenie");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::data::tests::notice;
    use crate::notify::tests::{KEY_HASH, Reply, check_settings, deliver, delivered, resolved};

    fn check(yaml: &str, expected: Result<(), &str>) {
        check_settings::<OpsgenieConfig>(yaml, expected);
    }

    #[test]
    fn settings() {
        check("{api_key: k}", Ok(()));
        check("{}", Err("no global OpsGenie API Key set either inline or in a file"));
        check("{api_key: k, api_key_file: f}", Err("at most one of api_key & api_key_file must be configured"));
        check("{api_key: k, responders: [{type: team}]}", Err("has to have at least one of id, username or name"));
        check("{api_key: k, responders: [{id: x, type: TEAM}]}", Ok(()));
        check("{api_key: k, responders: [{id: x, type: '{{ .Status }}'}]}", Ok(()));
        check(
            "{api_key: k, responders: [{id: x, type: wrong}]}",
            Err("type does not match valid options ^(team|teams|"),
        );
        check("{api_key: k, teams: x}", Err("teams"));
    }

    const YAML: &str = "{api_url: URL/og, api_key: '{{ .Receiver }}-key', message: '{{ .Status }}', description: d, source: s, \
                        details: {severity: high, by: '{{ .Receiver }}'}, tags: ' a,,b ', actions: x, note: n, priority: P1, entity: e, \
                        update_alerts: true, responders: [{name: 'one,two', type: teams}, {id: '{{ .GroupLabels.none }}', type: user}, \
                        {username: u, type: User}]}";

    #[tokio::test]
    async fn an_alert_is_created_and_brought_up_to_date() {
        let (sent, heard) = deliver::<OpsgenieConfig>(YAML, &[Reply::json(202, "{}")], &notice()).await;
        sent.expect("taken");
        let lines: Vec<String> = heard.iter().map(|heard| format!("{}?{}", heard.line(), heard.query)).collect();
        let update = |what: &str| format!("PUT /og/v2/alerts/{KEY_HASH}/{what}?identifierType=alias");
        assert_eq!(lines, ["POST /og/v2/alerts?".to_owned(), update("message"), update("description")]);
        assert!(heard.iter().all(|heard| heard.header("authorization") == "GenieKey team-key"));
        let expected = json!({"alias": KEY_HASH, "message": "firing", "description": "d", "source": "s",
            "details": {"alertname": "Down", "severity": "high", "by": "team"}, "tags": ["a", "b"], "actions": ["x"],
            "note": "n", "priority": "P1", "entity": "e", "responders": [{"name": "one", "type": "team"},
            {"name": "two", "type": "team"}, {"username": "u", "type": "user"}]});
        assert_eq!(heard[0].json(), expected);
        assert_eq!((heard[1].json(), heard[2].json()), (json!({"message": "firing"}), json!({"description": "d"})));
    }

    #[tokio::test]
    async fn an_alert_is_closed() {
        let heard = delivered::<OpsgenieConfig>(YAML, Reply::json(202, "{}"), &resolved()).await;
        assert_eq!(heard.line(), format!("POST /og/v2/alerts/{KEY_HASH}/close"));
        assert_eq!((heard.query.as_str(), heard.json()), ("identifierType=alias", json!({"source": "s"})));
    }

    #[tokio::test]
    async fn a_failure_stops_the_row_and_long_messages_are_cut() {
        let (sent, heard) = deliver::<OpsgenieConfig>(YAML, &[Reply::json(429, "slow down")], &notice()).await;
        assert!(sent.expect_err("429").retry && heard.len() == 1);
        let yaml = format!("{{api_url: URL, api_key: k, message: '{}'}}", "ä".repeat(200));
        let heard = delivered::<OpsgenieConfig>(&yaml, Reply::json(202, "{}"), &notice()).await.json();
        assert_eq!(heard["message"].as_str().map(|text| text.chars().count()), Some(130));
    }
}
