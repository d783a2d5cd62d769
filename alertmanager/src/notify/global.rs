//! `global`: what receivers fall back to where they say nothing themselves.

use std::path::PathBuf;
use std::sync::Arc;

use model::DurationMs;
use serde::Deserialize;

use super::http::Http;
use super::setting::{HttpUrl, Secret};
use service::http_config::{HttpConfig, TlsConfig};

#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Global {
    pub resolve_timeout: DurationMs,
    http_config: Option<HttpConfig>,
    pub smtp_from: String,
    pub smtp_hello: String,
    pub smtp_smarthost: String,
    pub smtp_auth_username: String,
    pub smtp_auth_password: String,
    pub smtp_auth_password_file: Option<PathBuf>,
    pub smtp_auth_secret: String,
    pub smtp_auth_secret_file: Option<PathBuf>,
    pub smtp_auth_identity: String,
    pub smtp_require_tls: bool,
    pub smtp_tls_config: Option<TlsConfig>,
    pub smtp_force_implicit_tls: Option<bool>,
    pub slack_api_url: Option<HttpUrl>,
    pub slack_api_url_file: Option<PathBuf>,
    pub slack_app_token: String,
    pub slack_app_token_file: Option<PathBuf>,
    pub slack_app_url: HttpUrl,
    pub pagerduty_url: HttpUrl,
    pub opsgenie_api_url: HttpUrl,
    pub opsgenie_api_key: String,
    pub opsgenie_api_key_file: Option<PathBuf>,
    pub wechat_api_url: HttpUrl,
    pub wechat_api_secret: String,
    pub wechat_api_secret_file: Option<PathBuf>,
    pub wechat_api_corp_id: String,
    pub victorops_api_url: HttpUrl,
    pub victorops_api_key: String,
    pub victorops_api_key_file: Option<PathBuf>,
    pub telegram_api_url: HttpUrl,
    pub telegram_bot_token: String,
    pub telegram_bot_token_file: Option<PathBuf>,
    pub webex_api_url: HttpUrl,
    pub jira_api_url: Option<HttpUrl>,
    pub rocketchat_api_url: HttpUrl,
    pub rocketchat_token: String,
    pub rocketchat_token_file: Option<PathBuf>,
    pub rocketchat_token_id: String,
    pub rocketchat_token_id_file: Option<PathBuf>,
    pub mattermost_webhook_url: Option<HttpUrl>,
    pub mattermost_webhook_url_file: Option<PathBuf>,
    /// Where the configuration file is.
    #[serde(skip)]
    base: PathBuf,
    #[serde(skip)]
    pub fixed: FixedUrls,
}

/// Addresses that no setting changes; tests do.
#[derive(Clone)]
pub struct FixedUrls {
    pub pushover: HttpUrl,
    pub pagerduty_v1: HttpUrl,
    pub slack_post: String,
    pub slack_update: HttpUrl,
    /// By region if it is none.
    pub sts: Option<HttpUrl>,
}

impl Default for FixedUrls {
    fn default() -> Self {
        FixedUrls {
            pushover: HttpUrl::known("https://api.pushover.net/1/messages.json"),
            pagerduty_v1: HttpUrl::known("https://events.pagerduty.com/generic/2010-04-15/create_event.json"),
            slack_post: "https://slack.com/api/chat.postMessage".to_owned(),
            slack_update: HttpUrl::known("https://slack.com/api/chat.update"),
            sts: None,
        }
    }
}

impl Default for Global {
    fn default() -> Self {
        Global {
            resolve_timeout: DurationMs(300_000),
            http_config: None,
            smtp_from: String::new(),
            smtp_hello: "localhost".to_owned(),
            smtp_smarthost: String::new(),
            smtp_auth_username: String::new(),
            smtp_auth_password: String::new(),
            smtp_auth_password_file: None,
            smtp_auth_secret: String::new(),
            smtp_auth_secret_file: None,
            smtp_auth_identity: String::new(),
            smtp_require_tls: true,
            smtp_tls_config: None,
            smtp_force_implicit_tls: None,
            slack_api_url: None,
            slack_api_url_file: None,
            slack_app_token: String::new(),
            slack_app_token_file: None,
            slack_app_url: HttpUrl::known("https://slack.com/api/chat.postMessage"),
            pagerduty_url: HttpUrl::known("https://events.pagerduty.com/v2/enqueue"),
            opsgenie_api_url: HttpUrl::known("https://api.opsgenie.com/"),
            opsgenie_api_key: String::new(),
            opsgenie_api_key_file: None,
            wechat_api_url: HttpUrl::known("https://qyapi.weixin.qq.com/cgi-bin/"),
            wechat_api_secret: String::new(),
            wechat_api_secret_file: None,
            wechat_api_corp_id: String::new(),
            victorops_api_url: HttpUrl::known("https://alert.victorops.com/integrations/generic/20131114/alert/"),
            victorops_api_key: String::new(),
            victorops_api_key_file: None,
            telegram_api_url: HttpUrl::known("https://api.telegram.org"),
            telegram_bot_token: String::new(),
            telegram_bot_token_file: None,
            webex_api_url: HttpUrl::known("https://webexapis.com/v1/messages"),
            jira_api_url: None,
            rocketchat_api_url: HttpUrl::known("https://open.rocket.chat/"),
            rocketchat_token: String::new(),
            rocketchat_token_file: None,
            rocketchat_token_id: String::new(),
            rocketchat_token_id_file: None,
            mattermost_webhook_url: None,
            mattermost_webhook_url_file: None,
            base: PathBuf::new(),
            fixed: FixedUrls::default(),
        }
    }
}

impl Global {
    /// Refuses what contradicts itself; `base` is where the configuration file is.
    pub fn check(mut self, base: PathBuf) -> Result<Global, String> {
        let pairs = [
            ("slack_app_token", &self.slack_app_token, &self.slack_app_token_file),
            ("opsgenie_api_key", &self.opsgenie_api_key, &self.opsgenie_api_key_file),
            ("victorops_api_key", &self.victorops_api_key, &self.victorops_api_key_file),
            ("telegram_bot_token", &self.telegram_bot_token, &self.telegram_bot_token_file),
            ("smtp_auth_password", &self.smtp_auth_password, &self.smtp_auth_password_file),
            ("rocketchat_token", &self.rocketchat_token, &self.rocketchat_token_file),
            ("rocketchat_token_id", &self.rocketchat_token_id, &self.rocketchat_token_id_file),
            ("smtp_auth_secret", &self.smtp_auth_secret, &self.smtp_auth_secret_file),
            ("wechat_api_secret", &self.wechat_api_secret, &self.wechat_api_secret_file),
        ];
        for (name, value, file) in pairs {
            Secret::pick(name, value, file)?;
        }
        let slack_url = Secret::pick_url("slack_api_url", &self.slack_api_url, &self.slack_api_url_file)?;
        let mattermost = (&self.mattermost_webhook_url, &self.mattermost_webhook_url_file);
        Secret::pick_url("mattermost_webhook_url", mattermost.0, mattermost.1)?;
        let has_token = !self.slack_app_token.is_empty() || self.slack_app_token_file.is_some();
        // Both may stand for the same place: how a token was given before there was a field for it.
        if has_token && slack_url.is_some() && self.slack_api_url.as_ref() != Some(&self.slack_app_url) {
            return Err(
                "at most one of slack_app_token/slack_app_token_file & slack_api_url/slack_api_url_file must be \
                        configured"
                    .to_owned(),
            );
        }
        if let Some(config) = self.http_config.take() {
            self.http_config = Some(config.check(&base)?);
        }
        self.base = base;
        Ok(self)
    }

    /// A receiver's own `http_config`, or the one of all.
    pub fn http_config(&self, own: Option<HttpConfig>) -> Result<HttpConfig, String> {
        match own {
            Some(own) => own.check(&self.base),
            None => Ok(self.http_config.clone().unwrap_or_default()),
        }
    }

    pub fn http(&self, own: Option<HttpConfig>) -> Result<Arc<Http>, String> {
        Ok(Arc::new(Http::new(self.http_config(own)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(), &str>) {
        let global: Global = serde_saphyr::from_str(text).expect("YAML");
        let refused = global.check(PathBuf::new()).err();
        assert_eq!(refused.as_deref(), expected.err(), "{text}");
    }

    #[test]
    fn contradictions_are_refused() {
        check("{}", Ok(()));
        check(
            "{slack_api_url: 'http://a', slack_api_url_file: b}",
            Err("at most one of slack_api_url & slack_api_url_file must be configured"),
        );
        check("{slack_api_url: 'https://slack.com/api/chat.postMessage', slack_app_token: t}", Ok(()));
        check(
            "{rocketchat_token: a, rocketchat_token_file: b}",
            Err("at most one of rocketchat_token & rocketchat_token_file must be configured"),
        );
        let both =
            "at most one of slack_app_token/slack_app_token_file & slack_api_url/slack_api_url_file must be configured";
        check("{slack_api_url: 'http://a', slack_app_token: t}", Err(both));
    }
}
