//! Amazon SNS: `Publish` to a topic, a phone or a target, signed by ourselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use reqwest::Url;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::http::Http;
use super::render::Render;
use super::setting::{HttpUrl, parse_url};
use super::sigv4::{Signer, Sigv4Config, post};
use super::{Configured, Global, Integration, Memory, NotifyError};
use service::http_config::HttpConfig;

const MAX_MESSAGE_BYTES: usize = 256 * 1024;
const MAX_SMS_BYTES: usize = 1600;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnsConfig {
    send_resolved: bool,
    http_config: Option<HttpConfig>,
    api_url: String,
    sigv4: Sigv4Config,
    topic_arn: String,
    phone_number: String,
    target_arn: String,
    subject: String,
    message: String,
    attributes: BTreeMap<String, String>,
    /// There is one client here.
    #[serde(rename = "use_aws_http_client")]
    _use_aws_http_client: Option<IgnoredAny>,
}

impl Default for SnsConfig {
    fn default() -> Self {
        SnsConfig {
            send_resolved: true,
            http_config: None,
            api_url: String::new(),
            sigv4: Sigv4Config::default(),
            topic_arn: String::new(),
            phone_number: String::new(),
            target_arn: String::new(),
            subject: r#"{{ template "sns.default.subject" . }}"#.to_owned(),
            message: r#"{{ template "sns.default.message" . }}"#.to_owned(),
            attributes: BTreeMap::new(),
            _use_aws_http_client: None,
        }
    }
}

pub struct Sns {
    config: SnsConfig,
    sts: Option<HttpUrl>,
    http: Arc<Http>,
}

impl Configured for SnsConfig {
    fn build(mut self, global: &Global) -> Result<Integration, String> {
        let given = [&self.target_arn, &self.topic_arn, &self.phone_number];
        if given.iter().filter(|target| !target.is_empty()).count() != 1 {
            return Err("must provide either a Target ARN, Topic ARN, or Phone Number for SNS config".to_owned());
        }
        self.sigv4.check()?;
        let http = global.http(self.http_config.take())?;
        Ok(Arc::new(Sns { config: self, sts: global.fixed.sts.clone(), http }))
    }
}

impl Sns {
    fn form(&self, render: &Render) -> Result<Vec<(String, String)>, NotifyError> {
        let config = &self.config;
        let text = |name: &str, template: &str| {
            render.text(template).map_err(|error| NotifyError::refused(format!("execute '{name}' template: {error}")))
        };
        let mut form =
            vec![("Action".to_owned(), "Publish".to_owned()), ("Version".to_owned(), "2010-03-31".to_owned())];
        let mut add = |name: &str, value: String| form.push((name.to_owned(), value));
        let mut max_bytes = MAX_MESSAGE_BYTES;
        if !config.topic_arn.is_empty() {
            let topic = text("topic_arn", &config.topic_arn)?;
            if topic.ends_with(".fifo") {
                add("MessageDeduplicationId", render.notice.key_hash());
                add("MessageGroupId", render.notice.key_hash());
            }
            add("TopicArn", topic);
        } else if !config.phone_number.is_empty() {
            add("PhoneNumber", text("phone_number", &config.phone_number)?);
            max_bytes = MAX_SMS_BYTES;
        } else {
            add("TargetArn", text("target_arn", &config.target_arn)?);
        }
        let mut attributes = BTreeMap::new();
        for (name, value) in &config.attributes {
            attributes.insert(text("attributes", name)?, text("attributes", value)?);
        }
        let mut message = text("message", &config.message)?;
        if message.len() > max_bytes {
            message.truncate(message.floor_char_boundary(max_bytes));
            attributes.insert("truncated".to_owned(), "true".to_owned());
        }
        add("Message", message);
        if !config.subject.is_empty() {
            add("Subject", text("subject", &config.subject)?);
        }
        for (i, (name, value)) in attributes.into_iter().enumerate() {
            let entry = format!("MessageAttributes.entry.{}", i + 1);
            add(&format!("{entry}.Name"), name);
            add(&format!("{entry}.Value.DataType"), "String".to_owned());
            add(&format!("{entry}.Value.StringValue"), value);
        }
        Ok(form)
    }

    fn url(&self, render: &Render, region: &str) -> Result<Url, NotifyError> {
        let template = |error: NotifyError| NotifyError::refused(format!("execute 'api_url' template: {error}"));
        let own = render.text(&self.config.api_url).map_err(template)?;
        let url = if own.is_empty() { format!("https://sns.{region}.amazonaws.com/") } else { own };
        parse_url(&url).map_err(NotifyError::for_good)
    }

    async fn deliver(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        let sigv4 = &self.config.sigv4;
        let region = sigv4.region()?;
        let url = self.url(render, &region)?;
        let form = self.form(render)?;
        let keys = sigv4.keys(&self.http, self.sts.as_ref()).await?;
        let signer = Signer { keys, region, service: sigv4.service("sns").to_owned() };
        post(&self.http, url, &form, &signer).await?;
        Ok(Memory::new())
    }
}

over_http!(Sns, "sns");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::data::tests::notice;
    use crate::notify::tests::{Heard, KEY_HASH, Reply, check_settings, deliver, delivered};

    fn check(yaml: &str, expected: Result<(), &str>) {
        check_settings::<SnsConfig>(yaml, expected);
    }

    #[test]
    fn settings() {
        check("{topic_arn: t, sigv4: {}}", Ok(()));
        check("{}", Err("must provide either a Target ARN, Topic ARN, or Phone Number for SNS config"));
        check("{topic_arn: t, phone_number: p}", Err("must provide either a Target ARN, Topic ARN, or Phone Number"));
        check("{topic_arn: t, sigv4: {access_key: a}}", Err("must provide a AWS SigV4 Access key and Secret Key"));
        check("{topic_arn: t, sigv4: {external_id: a}}", Err("external_id can only be used with role_arn"));
    }

    fn form(heard: &Heard) -> BTreeMap<String, String> {
        let url = Url::parse(&format!("http://x/?{}", heard.body)).expect("a URL");
        url.query_pairs().into_owned().collect()
    }

    const KEYS: &str = "sigv4: {region: eu-west-1, access_key: AK, secret_key: SK}";

    #[tokio::test]
    async fn a_fifo_topic_with_attributes() {
        let yaml = format!(
            "{{api_url: URL, topic_arn: 'arn:{{{{ .Receiver }}}}.fifo', subject: s, message: 'm {{{{ .Status }}}}', attributes: {{'k': 'v+'}}, {KEYS}}}"
        );
        let heard = delivered::<SnsConfig>(&yaml, Reply::text(200, "<PublishResponse/>"), &notice()).await;
        let expected = [
            ("Action", "Publish"),
            ("Message", "m firing"),
            ("MessageAttributes.entry.1.Name", "k"),
            ("MessageAttributes.entry.1.Value.DataType", "String"),
            ("MessageAttributes.entry.1.Value.StringValue", "v+"),
            ("MessageDeduplicationId", KEY_HASH),
            ("MessageGroupId", KEY_HASH),
            ("Subject", "s"),
            ("TopicArn", "arn:team.fifo"),
            ("Version", "2010-03-31"),
        ];
        assert_eq!(form(&heard), expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert_eq!(heard.header("content-type"), "application/x-www-form-urlencoded; charset=utf-8");
        let date = &heard.header("x-amz-date")[..8];
        let start = format!(
            "AWS4-HMAC-SHA256 Credential=AK/{date}/eu-west-1/sns/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature="
        );
        assert!(heard.header("authorization").starts_with(&start), "{}", heard.header("authorization"));
    }

    #[tokio::test]
    async fn a_long_text_message_is_cut() {
        let yaml = format!("{{api_url: URL, phone_number: '+1', subject: '', message: '{}', {KEYS}}}", "ä".repeat(900));
        let told = form(&delivered::<SnsConfig>(&yaml, Reply::text(200, ""), &notice()).await);
        assert_eq!((told["Message"].len(), told["PhoneNumber"].as_str(), told.get("Subject")), (1600, "+1", None));
        assert_eq!(told["MessageAttributes.entry.1.Name"], "truncated");
    }

    #[tokio::test]
    async fn a_role_is_assumed() {
        let yaml = "{api_url: URL, target_arn: t, sigv4: {region: r, access_key: AK, secret_key: SK, role_arn: role, external_id: x}}";
        let granted = "<AssumeRoleResponse><Credentials><AccessKeyId>RK</AccessKeyId><SecretAccessKey>RS</SecretAccessKey>\
                       <SessionToken>RT</SessionToken></Credentials></AssumeRoleResponse>";
        let (sent, heard) = deliver::<SnsConfig>(yaml, &[Reply::text(200, granted)], &notice()).await;
        sent.expect("taken");
        assert_eq!(heard[0].path, "/sts");
        let asked = form(&heard[0]);
        assert_eq!(
            (asked["Action"].as_str(), asked["RoleArn"].as_str(), asked["ExternalId"].as_str()),
            ("AssumeRole", "role", "x")
        );
        assert_eq!((heard[1].header("x-amz-security-token"), form(&heard[1])["TargetArn"].as_str()), ("RT", "t"));
        assert!(heard[1].header("authorization").contains("Credential=RK/"));
    }

    #[tokio::test]
    async fn refusals_are_explained() {
        let yaml = format!("{{api_url: URL, topic_arn: t, {KEYS}}}");
        let bad = "<ErrorResponse><Error><Code>InvalidParameter</Code><Message>Invalid parameter: TopicArn</Message></Error></ErrorResponse>";
        let error = deliver::<SnsConfig>(&yaml, &[Reply::text(400, bad)], &notice()).await.0.expect_err("400");
        assert_eq!(
            (error.message.as_str(), error.retry),
            ("unexpected status code 400: Invalid parameter: TopicArn", false)
        );
    }
}
