//! PagerDuty: events of version 2 (`routing_key`) and 1 (`service_key`), one incident per group.

use std::path::PathBuf;
use std::sync::Arc;

use model::DurationMs;
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::http::{Answer, Http, within};
use super::render::{Render, filled};
use super::setting::{HttpUrl, Secret};
use super::{Configured, Global, Integration, Memory, NotifyError};
use service::http_config::HttpConfig;

/// A larger event would be refused; it goes without its details.
const MAX_EVENT_BYTES: usize = 512_000;
const WITHOUT_DETAILS: &str =
    "Custom details have been removed because the original event exceeds the maximum size of 512KB";
const MAX_SUMMARY_RUNES: usize = 1024;
/// Version 1 says "too many" so.
const FORBIDDEN: u16 = 403;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PagerdutyConfig {
    send_resolved: bool,
    http_config: Option<HttpConfig>,
    service_key: String,
    service_key_file: Option<PathBuf>,
    routing_key: String,
    routing_key_file: Option<PathBuf>,
    url: Option<HttpUrl>,
    client: String,
    client_url: String,
    description: String,
    details: Map<String, Json>,
    images: Vec<Image>,
    links: Vec<Link>,
    source: String,
    severity: String,
    class: String,
    component: String,
    group: String,
    timeout: Option<DurationMs>,
}

impl Default for PagerdutyConfig {
    fn default() -> Self {
        let template = |name: &str| format!("{{{{ template \"pagerduty.default.{name}\" . }}}}");
        PagerdutyConfig {
            send_resolved: true,
            http_config: None,
            service_key: String::new(),
            service_key_file: None,
            routing_key: String::new(),
            routing_key_file: None,
            url: None,
            client: template("client"),
            client_url: template("clientURL"),
            description: template("description"),
            details: Map::new(),
            images: Vec::new(),
            links: Vec::new(),
            source: String::new(),
            severity: String::new(),
            class: String::new(),
            component: String::new(),
            group: String::new(),
            timeout: None,
        }
    }
}

/// Details that are there unless the settings say otherwise.
const DETAILS: [(&str, &str); 4] = [
    ("firing", "{{ .Alerts.Firing | toJson }}"),
    ("resolved", "{{ .Alerts.Resolved | toJson }}"),
    ("num_firing", "{{ .Alerts.Firing | len }}"),
    ("num_resolved", "{{ .Alerts.Resolved | len }}"),
];

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Image {
    src: String,
    alt: String,
    href: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Link {
    href: String,
    text: String,
}

enum Key {
    /// Version 1.
    Service(Secret),
    /// Version 2.
    Routing(Secret),
}

pub struct Pagerduty {
    config: PagerdutyConfig,
    key: Key,
    url: Url,
    http: Arc<Http>,
}

impl Configured for PagerdutyConfig {
    fn build(mut self, global: &Global) -> Result<Integration, String> {
        let routing = Secret::pick("routing_key", &self.routing_key, &self.routing_key_file)?;
        let service = Secret::pick("service_key", &self.service_key, &self.service_key_file)?;
        let (key, url) = match (service, routing) {
            (Some(key), _) => (Key::Service(key), global.fixed.pagerduty_v1.clone()),
            (None, Some(key)) => (Key::Routing(key), self.url.take().unwrap_or_else(|| global.pagerduty_url.clone())),
            (None, None) => return Err("missing service or routing key in PagerDuty config".to_owned()),
        };
        if self.source.is_empty() {
            self.source = self.client.clone();
        }
        if self.severity.is_empty() {
            self.severity = "error".to_owned();
        }
        for (name, template) in DETAILS {
            self.details.entry(name).or_insert_with(|| template.into());
        }
        let http = global.http(self.http_config.take())?;
        Ok(Arc::new(Pagerduty { config: self, key, url: url.0, http }))
    }
}

/// The key that stands in the event: not empty once its templates are filled in.
fn read_key(render: &Render, name: &str, key: &Secret) -> Result<String, NotifyError> {
    let key =
        render.text(&key.read().map_err(|error| error.while_doing(format!("failed to read {name} from file")))?)?;
    if key.is_empty() { Err(NotifyError::for_good(format!("{name} cannot be empty"))) } else { Ok(key) }
}

impl Pagerduty {
    fn event_v1(&self, render: &Render, key: &Secret, details: Json) -> Result<Json, NotifyError> {
        let config = &self.config;
        let is_firing = render.notice.is_firing();
        let mut event = filled([
            ("service_key", read_key(render, "service key", key)?.into()),
            ("event_type", if is_firing { "trigger" } else { "resolve" }.into()),
            ("incident_key", render.notice.key_hash().into()),
            ("description", render.cut("description", &config.description, MAX_SUMMARY_RUNES)?.into()),
            ("details", details),
        ]);
        if is_firing {
            event["client"] = render.text(&config.client)?.into();
            event["client_url"] = render.text(&config.client_url)?.into();
        }
        Ok(event)
    }

    fn event_v2(&self, render: &Render, key: &Secret, details: Json) -> Result<Json, NotifyError> {
        let config = &self.config;
        let text = |template: &str| render.text(template).map(Json::from);
        let mut payload = filled([
            ("class", text(&config.class)?),
            ("component", text(&config.component)?),
            ("group", text(&config.group)?),
            ("custom_details", details),
        ]);
        payload["summary"] = render.cut("summary", &config.description, MAX_SUMMARY_RUNES)?.into();
        payload["source"] = text(&config.source)?;
        payload["severity"] = text(&config.severity)?;
        let images = config.images.iter().map(|image| -> Result<Json, NotifyError> {
            Ok(json!({ "src": text(&image.src)?, "alt": text(&image.alt)?, "href": text(&image.href)? }))
        });
        let links = config.links.iter().map(|link| -> Result<Json, NotifyError> {
            Ok(json!({ "href": text(&link.href)?, "text": text(&link.text)? }))
        });
        let with = |items: Vec<Json>, name: &str| items.into_iter().filter(|item| item[name] != "").collect::<Vec<_>>();
        Ok(filled([
            ("client", text(&config.client)?),
            ("client_url", text(&config.client_url)?),
            ("routing_key", read_key(render, "routing key", key)?.into()),
            ("event_action", if render.notice.is_firing() { "trigger" } else { "resolve" }.into()),
            ("dedup_key", render.notice.key_hash().into()),
            ("images", with(images.collect::<Result<_, _>>()?, "src").into()),
            ("links", with(links.collect::<Result<_, _>>()?, "href").into()),
            ("payload", payload),
        ]))
    }

    fn event(&self, render: &Render) -> Result<Json, NotifyError> {
        let details = render.tree(&Json::Object(self.config.details.clone()));
        let details = details.map_err(|error| error.while_doing("failed to render details"))?;
        let make = |details: Json| match &self.key {
            Key::Service(key) => self.event_v1(render, key, details),
            Key::Routing(key) => self.event_v2(render, key, details),
        };
        let event = make(details)?;
        let bytes = event.to_string().len();
        if bytes <= MAX_EVENT_BYTES {
            return Ok(event);
        }
        tracing::warn!(group = render.notice.group_key, bytes, max_bytes = MAX_EVENT_BYTES, "details are left out");
        make(json!({ "error": WITHOUT_DETAILS }))
    }

    async fn post(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        let answer = self.http.post_json(self.url.clone(), &self.event(render)?).await?;
        let said = explain(&answer);
        let retried: &[u16] = if matches!(self.key, Key::Service(_)) { &[FORBIDDEN] } else { &[] };
        answer.check_saying(retried, &said)?;
        Ok(Memory::new())
    }

    async fn deliver(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        within("pagerduty", self.config.timeout, self.post(render)).await
    }
}

/// Only a bad request is explained.
fn explain(answer: &Answer) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Said {
        message: String,
        errors: Vec<String>,
    }
    match answer.json::<Said>() {
        Ok(said) if answer.status == 400 => format!("{}: {}", said.message, said.errors.join(",")),
        _ => String::new(),
    }
}

over_http!(Pagerduty, "pagerduty");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::data::tests::notice;
    use crate::notify::tests::{KEY_HASH, Reply, check_settings, deliver, delivered, resolved};

    fn check(yaml: &str, expected: Result<(), &str>) {
        check_settings::<PagerdutyConfig>(yaml, expected);
    }

    #[test]
    fn settings() {
        check("{routing_key: r}", Ok(()));
        check("{service_key_file: f}", Ok(()));
        check("{}", Err("missing service or routing key in PagerDuty config"));
        check("{routing_key: r, routing_key_file: f}", Err("at most one of routing_key & routing_key_file"));
        check("{service_key: r, service_key_file: f}", Err("at most one of service_key & service_key_file"));
    }

    const V2: &str = "{url: URL/v2/enqueue, routing_key: '{{ .Receiver }}', severity: '{{ .CommonLabels.severity }}', class: c, group: g, \
                      details: {firing: '{{ .Alerts.Firing | len }}', resolved: x, deep: {list: ['{{ .Status }}']}}, \
                      images: [{src: s, alt: a}, {src: '{{ .GroupLabels.none }}'}], links: [{href: h, text: t}, {text: u}]}";

    #[tokio::test]
    async fn version_2() {
        let heard = delivered::<PagerdutyConfig>(V2, Reply::json(202, "{}"), &notice()).await;
        assert_eq!(heard.line(), "POST /v2/enqueue");
        let expected = json!({"routing_key": "team", "event_action": "trigger", "dedup_key": KEY_HASH,
            "client": "Alertmanager", "client_url": "http://b/#/alerts?receiver=team",
            "images": [{"src": "s", "alt": "a", "href": ""}], "links": [{"href": "h", "text": "t"}],
            "payload": {"summary": "[FIRING:1] Down (page)", "source": "Alertmanager", "severity": "page", "class": "c",
                "group": "g", "custom_details": {"firing": 1, "resolved": "x", "deep": {"list": ["firing"]},
                "num_firing": 1, "num_resolved": 1}}});
        assert_eq!(heard.json(), expected);
        let heard = delivered::<PagerdutyConfig>(V2, Reply::json(202, "{}"), &resolved()).await;
        assert_eq!((&heard.json()["event_action"], &heard.json()["dedup_key"]), (&json!("resolve"), &json!(KEY_HASH)));
    }

    #[tokio::test]
    async fn details_hold_the_alerts() {
        let heard = delivered::<PagerdutyConfig>("{url: URL, routing_key: r}", Reply::json(202, "{}"), &notice()).await;
        let expected = json!([{"status": "firing", "labels": {"alertname": "Down", "severity": "page", "instance": "a<1>"},
            "annotations": {"summary": "a<1> is down"}, "startsAt": "1970-01-01T00:00:10Z",
            "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://b/#/explore",
            "fingerprint": notice().alerts[0].fingerprint().to_string()}]);
        assert_eq!(heard.json()["payload"]["custom_details"]["firing"], expected);
        assert_eq!(heard.json()["payload"]["severity"], "error");
    }

    #[tokio::test]
    async fn version_1() {
        let yaml = "{service_key: s, description: '{{ .Status }}', client: c, client_url: u, details: {firing: 1, resolved: 0}}";
        let heard = delivered::<PagerdutyConfig>(yaml, Reply::json(200, "{}"), &notice()).await;
        assert_eq!(heard.line(), "POST /pagerduty-v1");
        let expected = json!({"service_key": "s", "event_type": "trigger", "incident_key": KEY_HASH,
            "description": "firing", "client": "c", "client_url": "u",
            "details": {"firing": 1, "resolved": 0, "num_firing": 1, "num_resolved": 1}});
        assert_eq!(heard.json(), expected);
        let ended = delivered::<PagerdutyConfig>(yaml, Reply::json(200, "{}"), &resolved()).await.json();
        assert!(ended["event_type"] == "resolve" && ended.get("client").is_none(), "{ended}");
        let (sent, _) = deliver::<PagerdutyConfig>(yaml, &[Reply::json(403, "{}")], &notice()).await;
        assert!(sent.expect_err("rate limited").retry);
    }

    #[tokio::test]
    async fn a_large_event_goes_without_its_details() {
        let yaml = format!("{{url: URL, routing_key: r, details: {{big: '{}'}}}}", "x".repeat(MAX_EVENT_BYTES));
        let heard = delivered::<PagerdutyConfig>(&yaml, Reply::json(202, "{}"), &notice()).await;
        assert_eq!(heard.json()["payload"]["custom_details"], json!({"error": WITHOUT_DETAILS}));
    }

    #[tokio::test]
    async fn refusals_are_explained() {
        let bad =
            Reply::json(400, r#"{"status":"invalid event","message":"Event object is invalid","errors":["a","b"]}"#);
        let error = deliver::<PagerdutyConfig>(V2, &[bad], &notice()).await.0.expect_err("400");
        assert_eq!(
            (error.message.as_str(), error.retry),
            ("unexpected status code 400: Event object is invalid: a,b", false)
        );
        let error = deliver::<PagerdutyConfig>(V2, &[Reply::text(429, "why")], &notice()).await.0.expect_err("429");
        assert_eq!((error.message.as_str(), error.retry), ("unexpected status code 429", true));
        let empty = V2.replace(".Receiver", ".GroupLabels.none");
        let error = deliver::<PagerdutyConfig>(&empty, &[], &notice()).await.0.expect_err("no key");
        assert_eq!(error.message, "routing key cannot be empty");
    }
}
