//! Jira: one issue per group, found again by a label that holds the hash of the group key; created, brought up to
//! date, resolved and reopened by the transitions that the settings name.

use std::sync::Arc;

use model::DurationMs;
use reqwest::{Method, Url};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value as Json, json};

use super::http::Http;
use super::render::Render;
use super::setting::HttpUrl;
use super::{Configured, Global, Integration, Memory, NotifyError};
use service::http_config::HttpConfig;

const MAX_SUMMARY_RUNES: usize = 255;
const MAX_DESCRIPTION_RUNES: usize = 32_767;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JiraConfig {
    send_resolved: bool,
    http_config: Option<HttpConfig>,
    api_url: Option<HttpUrl>,
    api_type: String,
    project: String,
    summary: Text,
    description: Text,
    labels: Vec<String>,
    priority: String,
    issue_type: String,
    reopen_transition: String,
    resolve_transition: String,
    wont_fix_resolution: String,
    reopen_duration: DurationMs,
    fields: Map<String, Json>,
}

impl Default for JiraConfig {
    fn default() -> Self {
        let text = |name: &str| Text::of(format!("{{{{ template \"jira.default.{name}\" . }}}}"));
        JiraConfig {
            send_resolved: true,
            http_config: None,
            api_url: None,
            api_type: "auto".to_owned(),
            project: String::new(),
            summary: text("summary"),
            description: text("description"),
            labels: Vec::new(),
            priority: r#"{{ template "jira.default.priority" . }}"#.to_owned(),
            issue_type: String::new(),
            reopen_transition: String::new(),
            resolve_transition: String::new(),
            wont_fix_resolution: String::new(),
            reopen_duration: DurationMs(0),
            fields: Map::new(),
        }
    }
}

/// A field of an issue; written as a text, or with whether an existing issue's is replaced.
struct Text {
    template: String,
    enable_update: bool,
}

impl Text {
    fn of(template: String) -> Text {
        Text { template, enable_update: true }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            #[serde(default)]
            template: String,
            enable_update: Option<bool>,
        }
        match Json::deserialize(deserializer)? {
            Json::String(template) => Ok(Text::of(template)),
            Json::Null => Ok(Text::of(String::new())),
            other => {
                let long: Long = serde_json::from_value(other).map_err(serde::de::Error::custom)?;
                Ok(Text { template: long.template, enable_update: long.enable_update.unwrap_or(true) })
            }
        }
    }
}

pub struct Jira {
    config: JiraConfig,
    url: HttpUrl,
    http: Arc<Http>,
}

impl Configured for JiraConfig {
    fn build(mut self, global: &Global) -> Result<Integration, String> {
        if self.project.is_empty() {
            return Err("missing project in jira_config".to_owned());
        }
        if self.issue_type.is_empty() {
            return Err("missing issue_type in jira_config".to_owned());
        }
        if !["auto", "cloud", "datacenter"].contains(&self.api_type.as_str()) {
            return Err("unknown api_type on jira_config, must be auto, cloud or datacenter".to_owned());
        }
        let url = self.api_url.take().or_else(|| global.jira_api_url.clone());
        let url = url.ok_or("no global Jira Cloud URL set")?;
        let http = global.http(self.http_config.take())?;
        Ok(Arc::new(Jira { config: self, url, http }))
    }
}

/// An issue that a search found.
#[derive(Deserialize)]
struct Issue {
    key: String,
    fields: Option<IssueFields>,
}

#[derive(Deserialize)]
struct IssueFields {
    status: Option<Status>,
}

#[derive(Deserialize)]
struct Status {
    #[serde(rename = "statusCategory")]
    category: StatusCategory,
}

#[derive(Deserialize)]
struct StatusCategory {
    #[serde(default)]
    key: String,
}

impl Issue {
    fn is_done(&self) -> Option<bool> {
        Some(self.fields.as_ref()?.status.as_ref()?.category.key == "done")
    }
}

/// The label by which a group's issue is found again.
fn label(render: &Render) -> String {
    format!("ALERT{{{}}}", render.notice.key_hash())
}

/// A text in JQL.
fn quote(text: &str) -> String {
    Json::from(text).to_string()
}

impl Jira {
    async fn call(&self, method: Method, url: Url, body: Option<&Json>) -> Result<Vec<u8>, NotifyError> {
        let mut request = self.http.request(method, url)?.header("accept-language", "en");
        request = match body {
            Some(body) => request.json(body),
            None => request.header("content-type", "application/json"),
        };
        Ok(self.http.send(request).await?.check(&[])?.body)
    }

    fn query(&self, render: &Render) -> Result<String, NotifyError> {
        let config = &self.config;
        let mut jql = String::new();
        if !config.wont_fix_resolution.is_empty() {
            // `!=` alone would leave out what has no resolution yet.
            jql += &format!("(resolution is EMPTY or resolution != {}) and ", quote(&config.wont_fix_resolution));
        }
        let minutes = config.reopen_duration.0 / 60_000;
        jql += &match render.notice.is_firing() && !config.reopen_transition.is_empty() && minutes > 0 {
            true => format!("(resolutiondate is EMPTY OR resolutiondate >= -{minutes}m) and "),
            false => "statusCategory != Done and ".to_owned(),
        };
        let project = quote(&render.text(&config.project)?);
        let label = quote(&label(render));
        Ok(format!("{jql}project={project} and labels={label} order by status ASC,resolutiondate DESC"))
    }

    /// The cloud has only the new search, a data center only the old one.
    fn search_url(&self) -> Url {
        let is_cloud = match self.config.api_type.as_str() {
            "datacenter" => false,
            "cloud" => true,
            _ => self.url.0.host_str().is_some_and(|host| host.ends_with("atlassian.net")),
        };
        if !is_cloud {
            return self.url.join("search");
        }
        let mut url = self.url.join("search/jql");
        let path = url.path().replacen("/rest/api/2/", "/rest/api/3/", 1);
        url.set_path(&path);
        url
    }

    async fn search(&self, render: &Render<'_>) -> Result<Option<Issue>, NotifyError> {
        #[derive(Deserialize)]
        struct Found {
            #[serde(default)]
            issues: Vec<Issue>,
        }
        let body = json!({ "jql": self.query(render)?, "maxResults": 2, "fields": ["status"] });
        let answer = self.call(Method::POST, self.search_url(), Some(&body)).await;
        let answer = answer.map_err(|error| error.while_doing("HTTP request to JIRA API"))?;
        let found: Found = serde_json::from_slice(&answer).map_err(NotifyError::for_good)?;
        if found.issues.len() > 1 {
            tracing::warn!(group = render.notice.group_key, "more than one issue; the first one is taken");
        }
        Ok(found.issues.into_iter().next())
    }

    /// The description: a text, or for version 3 of the API a document that the template must yield.
    fn description(&self, render: &Render) -> Result<Json, NotifyError> {
        let text = render.cut("description", &self.config.description.template, MAX_DESCRIPTION_RUNES);
        let text = text.map_err(|error| error.while_doing("description template"))?;
        if !self.url.0.path().trim_end_matches('/').ends_with("/3") || text.trim().is_empty() {
            return Ok(if text.trim().is_empty() { Json::Null } else { text.into() });
        }
        serde_json::from_str(&text).map_err(|_| NotifyError::for_good("description template: invalid JSON for API v3"))
    }

    fn fields(&self, render: &Render, is_new: bool) -> Result<Map<String, Json>, NotifyError> {
        let config = &self.config;
        let named = |what: &'static str| move |error: NotifyError| error.while_doing(format!("{what} template"));
        let mut fields = Map::new();
        fields.insert("project".into(), json!({ "key": render.text(&config.project).map_err(named("project"))? }));
        let kind = render.text(&config.issue_type).map_err(named("issue_type"))?;
        fields.insert("issuetype".into(), json!({ "name": kind }));
        if is_new || config.summary.enable_update {
            let summary = render.cut("summary", &config.summary.template, MAX_SUMMARY_RUNES);
            fields.insert("summary".into(), summary.map_err(named("summary"))?.into());
        }
        let description = self.description(render)?;
        if !description.is_null() && (is_new || config.description.enable_update) {
            fields.insert("description".into(), description);
        }
        let mut labels: Vec<String> =
            config.labels.iter().map(|one| render.text(one)).collect::<Result<_, _>>().map_err(named("labels"))?;
        labels.push(label(render));
        labels.sort();
        fields.insert("labels".into(), labels.into());
        let priority = render.text(&config.priority).map_err(named("priority"))?;
        if !priority.is_empty() {
            fields.insert("priority".into(), json!({ "name": priority }));
        }
        for (name, value) in &config.fields {
            fields.insert(name.clone(), render.tree(value).map_err(named("fields"))?);
        }
        Ok(fields)
    }

    /// Resolves what has ended and reopens what fires again, if the settings name a transition for it.
    async fn transition(&self, issue: &Issue, is_firing: bool) -> Result<(), NotifyError> {
        let wanted = match issue.is_done() {
            Some(true) if is_firing => &self.config.reopen_transition,
            Some(false) if !is_firing => &self.config.resolve_transition,
            _ => return Ok(()),
        };
        if wanted.is_empty() {
            return Ok(());
        }
        #[derive(Deserialize)]
        struct Offered {
            #[serde(default)]
            transitions: Vec<Transition>,
        }
        #[derive(Deserialize)]
        struct Transition {
            id: String,
            #[serde(default)]
            name: String,
        }
        let url = self.url.join(&format!("issue/{}/transitions", issue.key));
        let answer = self.call(Method::GET, url.clone(), None).await?;
        let offered: Offered = serde_json::from_slice(&answer).map_err(NotifyError::for_good)?;
        let id = offered.transitions.into_iter().find(|one| one.name == *wanted).map(|one| one.id);
        let id =
            id.ok_or_else(|| NotifyError::for_good(format!("can't find transition {wanted} for issue {}", issue.key)))?;
        self.call(Method::POST, url, Some(&json!({ "transition": {"id": id} }))).await.map(drop)
    }

    async fn deliver(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        let is_firing = render.notice.is_firing();
        let found = self.search(render).await;
        let found = found.map_err(|error| error.while_doing("failed to look up existing issues"))?;
        let (method, path) = match &found {
            // Nobody needs an issue about what is over.
            None if !is_firing => return Ok(Memory::new()),
            None => (Method::POST, "issue".to_owned()),
            Some(issue) => (Method::PUT, format!("issue/{}", issue.key)),
        };
        let body = json!({ "fields": self.fields(render, found.is_none())? });
        let sent = self.call(method.clone(), self.url.join(&path), Some(&body)).await;
        sent.map_err(|error| error.while_doing(format!("failed to {method} request to {path:?}")))?;
        if let Some(issue) = found {
            self.transition(&issue, is_firing).await?;
        }
        Ok(Memory::new())
    }
}

over_http!(Jira, "jira");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::data::tests::notice;
    use crate::notify::tests::{KEY_HASH, Reply, check_settings, deliver, resolved};

    fn check(yaml: &str, expected: Result<(), &str>) {
        check_settings::<JiraConfig>(yaml, expected);
    }

    #[test]
    fn settings() {
        check("{api_url: 'http://x', project: p, issue_type: t}", Ok(()));
        check("{project: p, issue_type: t}", Err("no global Jira Cloud URL set"));
        check("{api_url: 'http://x', issue_type: t}", Err("missing project in jira_config"));
        check("{api_url: 'http://x', project: p}", Err("missing issue_type in jira_config"));
        check(
            "{project: p, issue_type: t, api_type: x}",
            Err("unknown api_type on jira_config, must be auto, cloud or"),
        );
        check("{api_url: 'http://x', project: p, issue_type: t, summary: {template: a, enable_update: false}}", Ok(()));
        check("{project: p, issue_type: t, summary: {odd: a}}", Err("odd"));
    }

    const YAML: &str = "{api_url: URL/rest/api/2, project: '{{ .GroupLabels.alertname }}', issue_type: Bug, labels: [z, '{{ .Status }}'], \
                        description: '{{ .Status }}', priority: High, fields: {customfield_1: {value: '{{ .Status }}'}}, \
                        resolve_transition: Done, reopen_transition: Again, reopen_duration: 2h, wont_fix_resolution: \"Won't\"}";

    fn found(category: &str) -> Reply {
        let status = format!(r#"{{"name":"x","statusCategory":{{"key":"{category}"}}}}"#);
        Reply::json(200, &format!(r#"{{"issues":[{{"key":"K-1","fields":{{"status":{status}}}}}]}}"#))
    }

    fn transitions() -> Reply {
        Reply::json(200, r#"{"transitions":[{"id":"5","name":"Again"},{"id":"6","name":"Done"}]}"#)
    }

    #[tokio::test]
    async fn an_issue_is_created() {
        let replies = [Reply::json(200, r#"{"issues":[]}"#), Reply::json(201, r#"{"id":"1"}"#)];
        let (sent, heard) = deliver::<JiraConfig>(YAML, &replies, &notice()).await;
        sent.expect("taken");
        let lines: Vec<String> = heard.iter().map(|heard| heard.line()).collect();
        assert_eq!(lines, ["POST /rest/api/2/search", "POST /rest/api/2/issue"]);
        let jql = format!(
            "(resolution is EMPTY or resolution != \"Won't\") and (resolutiondate is EMPTY OR resolutiondate >= -120m) \
             and project=\"Down\" and labels=\"ALERT{{{KEY_HASH}}}\" order by status ASC,resolutiondate DESC"
        );
        assert_eq!(heard[0].json(), json!({"jql": jql, "maxResults": 2, "fields": ["status"]}));
        let expected = json!({"fields": {"project": {"key": "Down"}, "issuetype": {"name": "Bug"},
            "summary": "[FIRING:1] Down (page)", "description": "firing", "priority": {"name": "High"},
            "labels": [format!("ALERT{{{KEY_HASH}}}"), "firing".to_owned(), "z".to_owned()],
            "customfield_1": {"value": "firing"}}});
        assert_eq!(heard[1].json(), expected);
        assert_eq!(heard[1].header("accept-language"), "en");
    }

    #[tokio::test]
    async fn an_issue_is_reopened_and_resolved() {
        let yaml = YAML.replace("description: '{{ .Status }}'", "description: {template: x, enable_update: false}");
        let updated = Reply::text(204, "");
        let (sent, heard) =
            deliver::<JiraConfig>(&yaml, &[found("done"), updated.clone(), transitions()], &notice()).await;
        sent.expect("taken");
        let lines: Vec<String> = heard.iter().map(|heard| heard.line()).collect();
        let transition = "/rest/api/2/issue/K-1/transitions";
        let (get, post) = (format!("GET {transition}"), format!("POST {transition}"));
        assert_eq!(lines[1..], ["PUT /rest/api/2/issue/K-1".to_owned(), get.clone(), post.clone()]);
        assert!(heard[1].json()["fields"].get("description").is_none());
        assert_eq!(heard[3].json(), json!({"transition": {"id": "5"}}));
        let (sent, heard) =
            deliver::<JiraConfig>(&yaml, &[found("new"), updated.clone(), transitions()], &resolved()).await;
        sent.expect("taken");
        assert!(
            heard[0].json()["jql"].as_str().is_some_and(|jql| jql.contains(" statusCategory != Done and project="))
        );
        assert_eq!(heard[3].json(), json!({"transition": {"id": "6"}}));
        let (sent, heard) = deliver::<JiraConfig>(&yaml, &[found("new"), updated], &notice()).await;
        assert!(sent.is_ok() && heard.len() == 2, "an open issue stays open");
    }

    #[tokio::test]
    async fn what_is_over_needs_no_issue_and_failures_are_named() {
        let nothing = Reply::json(200, r#"{"issues":[]}"#);
        let (sent, heard) = deliver::<JiraConfig>(YAML, std::slice::from_ref(&nothing), &resolved()).await;
        assert!(sent.is_ok() && heard.len() == 1);
        let (sent, _) = deliver::<JiraConfig>(YAML, &[Reply::text(401, "who?")], &notice()).await;
        let expected = "failed to look up existing issues: HTTP request to JIRA API: unexpected status code 401: who?";
        assert_eq!(sent.expect_err("401").message, expected);
        let (sent, _) = deliver::<JiraConfig>(YAML, &[nothing, Reply::text(400, "no")], &notice()).await;
        assert_eq!(
            sent.expect_err("400").message,
            "failed to POST request to \"issue\": unexpected status code 400: no"
        );
        let missing = Reply::json(200, r#"{"transitions":[]}"#);
        let (sent, _) = deliver::<JiraConfig>(YAML, &[found("new"), Reply::text(204, ""), missing], &resolved()).await;
        assert_eq!(sent.expect_err("no transition").message, "can't find transition Done for issue K-1");
    }

    #[tokio::test]
    async fn version_3_takes_documents() {
        let yaml = "{api_url: URL/rest/api/3, api_type: cloud, project: P, issue_type: T, description: '{{ .CommonLabels | toJson }}'}";
        let (sent, heard) = deliver::<JiraConfig>(yaml, &[Reply::json(200, "{}")], &notice()).await;
        sent.expect("taken");
        assert_eq!(heard[0].line(), "POST /rest/api/3/search/jql");
        assert_eq!(heard[1].json()["fields"]["description"], json!({"alertname": "Down", "severity": "page"}));
        let bad = yaml.replace("{{ .CommonLabels | toJson }}", "text");
        let (sent, _) = deliver::<JiraConfig>(&bad, &[Reply::json(200, "{}")], &notice()).await;
        assert_eq!(sent.expect_err("no JSON").message, "description template: invalid JSON for API v3");
    }
}
