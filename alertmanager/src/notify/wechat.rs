//! WeChat (WeCom): an application's message, sent with an access token that is kept for as long as it holds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::http::Http;
use super::render::{Render, filled};
use super::setting::{HttpUrl, Secret, or};
use super::{Configured, Global, Integration, Memory, NotifyError, Reason};
use service::http_config::HttpConfig;

const TOKEN_LIFETIME: Duration = Duration::from_secs(2 * 3_600);
/// The vendor's code for a token that has ended.
const TOKEN_EXPIRED: i64 = 42_001;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WechatConfig {
    send_resolved: bool,
    http_config: Option<HttpConfig>,
    api_secret: String,
    api_secret_file: Option<PathBuf>,
    corp_id: String,
    message: String,
    api_url: Option<HttpUrl>,
    to_user: String,
    to_party: String,
    to_tag: String,
    agent_id: String,
    message_type: String,
}

impl Default for WechatConfig {
    fn default() -> Self {
        let template = |name: &str| format!("{{{{ template \"wechat.default.{name}\" . }}}}");
        WechatConfig {
            send_resolved: false,
            http_config: None,
            api_secret: String::new(),
            api_secret_file: None,
            corp_id: String::new(),
            message: template("message"),
            api_url: None,
            to_user: template("to_user"),
            to_party: template("to_party"),
            to_tag: template("to_tag"),
            agent_id: template("agent_id"),
            message_type: String::new(),
        }
    }
}

pub struct Wechat {
    config: WechatConfig,
    url: HttpUrl,
    secret: Secret,
    token: Mutex<Option<(String, Instant)>>,
    http: Arc<Http>,
}

impl Configured for WechatConfig {
    fn build(mut self, global: &Global) -> Result<Integration, String> {
        self.message_type = or(self.message_type, "text");
        if !["text", "markdown"].contains(&self.message_type.as_str()) {
            let kind = &self.message_type;
            return Err(format!("weChat message type {kind:?} does not match valid options ^(text|markdown)$"));
        }
        let own = Secret::pick("api_secret", &self.api_secret, &self.api_secret_file)?;
        let shared = Secret::pick("wechat_api_secret", &global.wechat_api_secret, &global.wechat_api_secret_file)?;
        let secret = own.or(shared).ok_or("no global Wechat Api Secret set either inline or in a file")?;
        self.corp_id = or(self.corp_id, &global.wechat_api_corp_id);
        if self.corp_id.is_empty() {
            return Err("no global Wechat CorpID set".to_owned());
        }
        let url = self.api_url.take().unwrap_or_else(|| global.wechat_api_url.clone());
        let http = global.http(self.http_config.take())?;
        Ok(Arc::new(Wechat { config: self, url, secret, token: Mutex::new(None), http }))
    }
}

impl Wechat {
    async fn token(&self, render: &Render<'_>) -> Result<String, NotifyError> {
        let known = self.token.lock().clone();
        if let Some((token, since)) = known
            && since.elapsed() < TOKEN_LIFETIME
        {
            return Ok(token);
        }
        let secret = render.text(&self.secret.read()?)?;
        let query = [("corpsecret", secret), ("corpid", render.text(&self.config.corp_id)?)];
        let request = self.http.request(Method::GET, self.url.join("gettoken"))?.query(&query);
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Granted {
            access_token: String,
        }
        let granted: Granted = self.http.send(request).await?.check(&[])?.json()?;
        if granted.access_token.is_empty() {
            return Err(NotifyError::for_good(format!("invalid APISecret for CorpID: {}", self.config.corp_id)));
        }
        *self.token.lock() = Some((granted.access_token.clone(), Instant::now()));
        Ok(granted.access_token)
    }

    async fn deliver(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        let token = self.token(render).await?;
        let config = &self.config;
        let mut message = filled([
            ("touser", render.text(&config.to_user)?.into()),
            ("toparty", render.text(&config.to_party)?.into()),
            ("totag", render.text(&config.to_tag)?.into()),
            ("agentid", render.text(&config.agent_id)?.into()),
            ("safe", "0".into()),
            ("msgtype", config.message_type.as_str().into()),
        ]);
        message[&config.message_type] = json!({ "content": render.text(&config.message)? });
        let request = self.http.request(Method::POST, self.url.join("message/send"))?;
        let answer = self.http.send(request.query(&[("access_token", token)]).json(&message)).await?;
        if answer.status != 200 {
            let message = format!("unexpected status code {}", answer.status);
            return Err(NotifyError { message, retry: true, reason: Reason::of_status(answer.status) });
        }
        #[derive(Deserialize)]
        struct Said {
            #[serde(default)]
            errcode: i64,
            #[serde(default)]
            errmsg: String,
        }
        let said: Said = answer.json()?;
        match said.errcode {
            0 => Ok(Memory::new()),
            TOKEN_EXPIRED => {
                *self.token.lock() = None;
                Err(NotifyError::for_now(said.errmsg))
            }
            _ => Err(NotifyError::refused(said.errmsg)),
        }
    }
}

over_http!(Wechat, "wechat");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::data::tests::notice;
    use crate::notify::tests::{Reply, Server, build, check_settings, deliver};
    use crate::notify::{attempt, default_templates};

    fn check(yaml: &str, expected: Result<(), &str>) {
        check_settings::<WechatConfig>(yaml, expected);
    }

    #[test]
    fn settings() {
        check("{api_secret: s, corp_id: c}", Ok(()));
        check("{corp_id: c}", Err("no global Wechat Api Secret set either inline or in a file"));
        check("{api_secret: s}", Err("no global Wechat CorpID set"));
        check("{api_secret: s, api_secret_file: f, corp_id: c}", Err("at most one of api_secret & api_secret_file"));
        check("{api_secret: s, corp_id: c, message_type: card}", Err("weChat message type \"card\" does not match"));
    }

    const YAML: &str = "{api_url: URL/cgi-bin/, api_secret: s&1, corp_id: c, to_user: '@all', to_party: p, agent_id: a, \
                        message_type: markdown, message: '{{ .Status }}'}";

    #[tokio::test]
    async fn a_token_is_kept_until_it_ends() {
        let granted = |token: &str| Reply::json(200, &format!(r#"{{"access_token":"{token}"}}"#));
        let ok = || Reply::json(200, r#"{"errcode":0,"errmsg":"ok"}"#);
        let expired = Reply::json(200, r#"{"errcode":42001,"errmsg":"access_token expired"}"#);
        let server = Server::start(&[granted("one"), ok(), ok(), expired, granted("two"), ok()]).await;
        let wechat = build::<WechatConfig>(YAML, &server).expect("good");
        let (notice, templates) = (notice(), default_templates());
        let mut results = Vec::new();
        for _ in 0..4 {
            results.push(
                attempt(&wechat, &notice, &templates, crate::notify::ATTEMPT_TIMEOUT)
                    .await
                    .map_err(|error| (error.message, error.retry)),
            );
        }
        let failed = Err(("access_token expired".to_owned(), true));
        assert_eq!(results, [Ok(Memory::new()), Ok(Memory::new()), failed, Ok(Memory::new())]);
        let heard = server.heard();
        let lines: Vec<String> = heard.iter().map(|heard| format!("{}?{}", heard.line(), heard.query)).collect();
        let (ask, one) =
            ("GET /cgi-bin/gettoken?corpsecret=s%261&corpid=c", "POST /cgi-bin/message/send?access_token=one");
        assert_eq!(lines, [ask, one, one, one, ask, "POST /cgi-bin/message/send?access_token=two"]);
        let expected = json!({"touser": "@all", "toparty": "p", "agentid": "a", "safe": "0", "msgtype": "markdown",
            "markdown": {"content": "firing"}});
        assert_eq!(heard[1].json(), expected);
    }

    #[tokio::test]
    async fn refusals() {
        let error = deliver::<WechatConfig>(YAML, &[Reply::json(200, r#"{"errcode":40001}"#)], &notice()).await.0;
        assert_eq!(error.expect_err("no token").message, "invalid APISecret for CorpID: c");
        let granted = Reply::json(200, r#"{"access_token":"t"}"#);
        let bad = Reply::json(200, r#"{"errcode":81013,"errmsg":"no user"}"#);
        let error = deliver::<WechatConfig>(YAML, &[granted.clone(), bad], &notice()).await.0.expect_err("refused");
        assert_eq!((error.message.as_str(), error.retry), ("no user", false));
        let error =
            deliver::<WechatConfig>(YAML, &[granted, Reply::text(404, "")], &notice()).await.0.expect_err("404");
        assert_eq!((error.message.as_str(), error.retry), ("unexpected status code 404", true));
    }
}
