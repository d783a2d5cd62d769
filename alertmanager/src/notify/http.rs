//! Requests to receivers: one client per `http_config`, credentials, and what an answer means.

use std::sync::OnceLock;

use model::DurationMs;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Method, RequestBuilder, Url};
use serde::{Deserialize, Serialize};
pub use service::client::with_secret;
use service::client::{ClientError, HttpClient, chain};
use service::http_config::{HttpConfig, HttpConfigError};

use super::{ATTEMPT_TIMEOUT, IDEMPOTENCY_KEY, NotifyError, Reason};

/// More of an answer is not read.
const MAX_BODY_BYTES: usize = 1 << 20;
/// More of an answer is not repeated in an error.
const MAX_SAID_CHARS: usize = 1_000;
const TOO_MANY_REQUESTS: u16 = 429;

/// A way to receivers: a client, and the credentials for it.
pub struct Http {
    pub config: HttpConfig,
    own: HttpClient,
}

impl Http {
    pub fn new(config: HttpConfig) -> Http {
        Http { own: HttpClient::new(config.clone()), config }
    }

    /// Made when it is first needed; settings that say nothing about connections share one.
    pub fn client(&self) -> Result<&Client, NotifyError> {
        static PLAIN: OnceLock<Client> = OnceLock::new();
        if !self.config.is_plain() {
            return Ok(self.own.client(|builder| builder.timeout(ATTEMPT_TIMEOUT))?);
        }
        if let Some(client) = PLAIN.get() {
            return Ok(client);
        }
        let builder = self.config.apply(service::http::client().timeout(ATTEMPT_TIMEOUT))?;
        let client = builder.build().map_err(NotifyError::for_now)?;
        Ok(PLAIN.get_or_init(|| client))
    }

    pub fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, NotifyError> {
        Ok(self.client()?.request(method, url))
    }

    pub async fn post_json(&self, url: Url, body: &impl Serialize) -> Result<Answer, NotifyError> {
        self.send(self.request(Method::POST, url)?.json(body)).await
    }

    /// Sends a request with the credentials and headers of `http_config`.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer, NotifyError> {
        let mut request = self.own.authorized(request).await?;
        if let Ok(key) = IDEMPOTENCY_KEY.try_with(String::clone) {
            request = request.header("idempotency-key", key);
        }
        Answer::read(request).await
    }
}

/// What a receiver said.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub is_json: bool,
    pub body: Vec<u8>,
}

impl Answer {
    pub async fn read(request: RequestBuilder) -> Result<Answer, NotifyError> {
        // The address may hold a secret: the error must not name it.
        let failed = |error: reqwest::Error| {
            let reason = match (error.is_timeout(), error.is_connect() || error.is_builder()) {
                (_, true) => Reason::Other,
                (true, _) => Reason::DeadlineExceeded,
                (false, _) => Reason::Unanswered,
            };
            NotifyError { reason, ..NotifyError::for_now(chain(&error.without_url())) }
        };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let is_json = kind.starts_with("application/json");
        let mut body = Vec::new();
        while body.len() < MAX_BODY_BYTES
            && let Some(chunk) = response.chunk().await.map_err(failed)?
        {
            body.extend_from_slice(&chunk[..chunk.len().min(MAX_BODY_BYTES - body.len())]);
        }
        Ok(Answer { status, is_json, body })
    }

    /// Fails unless it is 2xx. What the receiver could not do now (5xx), what was too much (429), and the
    /// integration's own codes in `retried` are worth another attempt.
    pub fn check(self, retried: &[u16]) -> Result<Answer, NotifyError> {
        let said = self.said();
        self.check_saying(retried, &said)
    }

    /// As [`Answer::check`], with the integration's own reading of the answer.
    pub fn check_saying(self, retried: &[u16], said: &str) -> Result<Answer, NotifyError> {
        let status = self.status;
        if (200..300).contains(&status) {
            return Ok(self);
        }
        let retry = status >= 500 || status == TOO_MANY_REQUESTS || retried.contains(&status);
        let separator = if said.is_empty() { "" } else { ": " };
        let message = format!("unexpected status code {status}{separator}{said}");
        Err(NotifyError { message, retry, reason: Reason::of_status(status) })
    }

    /// The start of the body.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(MAX_SAID_CHARS).collect()
    }

    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, NotifyError> {
        let parsed = serde_json::from_slice(&self.body);
        parsed.map_err(|error| {
            NotifyError::for_now(format!("could not unmarshal JSON response {:?}: {error}", self.said()))
        })
    }
}

impl From<HttpConfigError> for NotifyError {
    fn from(error: HttpConfigError) -> NotifyError {
        match error {
            HttpConfigError::Wrong(message) => NotifyError::for_good(message),
            HttpConfigError::Unread(message) => NotifyError::for_now(message),
        }
    }
}

impl From<ClientError> for NotifyError {
    fn from(error: ClientError) -> NotifyError {
        match error {
            ClientError::Config(error) => error.into(),
            ClientError::Token(message) => NotifyError::for_now(message),
        }
    }
}

/// Runs an attempt under the integration's own `timeout`; 0 or none is no limit of its own.
pub async fn within<T>(
    kind: &str,
    timeout: Option<DurationMs>,
    attempt: impl Future<Output = Result<T, NotifyError>>,
) -> Result<T, NotifyError> {
    let Some(limit) = timeout.filter(|timeout| timeout.0 > 0) else { return attempt.await };
    tokio::time::timeout(limit.as_std(), attempt).await.unwrap_or_else(|_| {
        let message = format!("configured {kind} timeout reached ({})", model::format_duration(limit.0));
        Err(NotifyError { message, retry: true, reason: Reason::DeadlineExceeded })
    })
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use ring::signature::{self, UnparsedPublicKey};
    use service::http_config::JWT_BEARER;

    use super::*;
    use crate::notify::setting::parse_url;
    use crate::notify::tests::{Reply, Server};

    fn check(status: u16, retried: &[u16], expected: Result<(), (bool, Reason)>) {
        let answer = Answer { status, is_json: false, body: b"why".to_vec() };
        let checked = answer.check(retried).map(drop).map_err(|error| (error.retry, error.reason));
        assert_eq!(checked, expected, "{status}");
    }

    #[test]
    fn what_is_worth_another_attempt() {
        check(204, &[], Ok(()));
        check(302, &[], Err((false, Reason::Other)));
        check(400, &[], Err((false, Reason::Client)));
        check(401, &[], Err((false, Reason::Auth)));
        check(403, &[403], Err((true, Reason::Auth)));
        check(429, &[], Err((true, Reason::RateLimited)));
        check(503, &[], Err((true, Reason::Server)));
        let error = Answer { status: 400, is_json: false, body: vec![b'x'; 5_000] }.check(&[]).expect_err("400");
        assert_eq!(error.message, format!("unexpected status code 400: {}", "x".repeat(MAX_SAID_CHARS)));
    }

    fn http(yaml: &str) -> Http {
        let config: HttpConfig = serde_saphyr::from_str(yaml).expect("YAML");
        Http::new(config.check(std::path::Path::new("/")).expect("good"))
    }

    #[tokio::test]
    async fn credentials_and_headers_go_along() {
        let server = Server::start(&[]).await;
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("token");
        std::fs::write(&file, "from-file\n").expect("written");
        let yaml = format!("{{bearer_token_file: {}, http_headers: {{X-A: {{values: [b]}}}}}}", file.display());
        let bodies = [http(&yaml), http("{basic_auth: {username: u, password: p}}")];
        for http in &bodies {
            http.post_json(server.url("/x"), &"hello").await.expect("sent").check(&[]).expect("200");
        }
        let heard = server.heard();
        assert_eq!(heard[0].header("authorization"), "Bearer from-file");
        assert_eq!(heard[0].header("x-a"), "b");
        assert_eq!(heard[0].header("content-type"), "application/json");
        assert_eq!(heard[1].header("authorization"), "Basic dTpw");
    }

    #[tokio::test]
    async fn a_token_is_asked_for_once() {
        let server = Server::start(&[Reply::json(200, r#"{"access_token":"t","expires_in":60}"#)]).await;
        let token_url = server.url("/token");
        let http =
            http(&format!("{{oauth2: {{client_id: c, client_secret: s, scopes: [a, b], token_url: '{token_url}'}}}}"));
        for _ in 0..2 {
            http.post_json(server.url("/x"), &1).await.expect("sent");
        }
        let heard = server.heard();
        let paths: Vec<&str> = heard.iter().map(|request| request.path.as_str()).collect();
        assert_eq!(paths, ["/token", "/x", "/x"]);
        assert_eq!(heard[0].header("authorization"), "Basic Yzpz");
        assert_eq!(heard[0].body, "grant_type=client_credentials&scope=a+b");
        assert_eq!(heard[2].header("authorization"), "Bearer t");
    }

    /// RFC 7523: what is posted is signed with the key, and says who, to whom, and for what.
    #[tokio::test]
    async fn a_token_is_had_for_a_signed_assertion() {
        let server = Server::start(&[Reply::json(200, r#"{"access_token":"t","expires_in":60}"#)]).await;
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("key.pem");
        let pem = include_str!("testdata/oauth_key.pem");
        std::fs::write(&file, pem).expect("written");
        let http = http(&format!(
            "{{oauth2: {{client_id: c, grant_type: '{JWT_BEARER}', client_certificate_key_file: {}, scopes: [a, b], \
             client_certificate_key_id: k, signature_algorithm: RS384, claims: {{x: [1]}}, token_url: '{}'}}}}",
            file.display(),
            server.url("/token")
        ));
        http.post_json(server.url("/x"), &1).await.expect("sent");
        let heard = server.heard();
        assert_eq!((heard[0].header("authorization"), heard[1].header("authorization")), ("", "Bearer t"));
        let form: Vec<(String, String)> =
            server.url(&format!("/?{}", heard[0].body)).query_pairs().into_owned().collect();
        assert_eq!(form[0], ("grant_type".to_owned(), JWT_BEARER.to_owned()));
        assert_eq!(form[1].0, "assertion");
        let parts: Vec<Vec<u8>> =
            form[1].1.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).expect("base64")).collect();
        let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).expect("JSON");
        assert_eq!(json(&parts[0]), serde_json::json!({"alg": "RS384", "typ": "JWT", "kid": "k"}));
        let claims = json(&parts[1]);
        assert_eq!((&claims["iss"], &claims["sub"], &claims["scope"]), (&"c".into(), &"c".into(), &"a b".into()));
        assert_eq!((&claims["aud"], &claims["x"]), (&server.url("/token").as_str().into(), &serde_json::json!([1])));
        assert_eq!(claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(exp, iat)| exp - iat), Some(600));
        let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let key = ring::rsa::KeyPair::from_pkcs8(&STANDARD.decode(der).expect("base64")).expect("a key");
        let signed = form[1].1.rsplit_once('.').expect("a signature").0;
        let public = UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA384, key.public().as_ref());
        public.verify(signed.as_bytes(), &parts[2]).expect("signed by the key");
    }

    #[tokio::test]
    async fn a_proxy_and_redirects_are_obeyed() {
        let server = Server::start(&[Reply::redirect("/there"), Reply::redirect("/there")]).await;
        let proxy = server.url("/");
        let config = http(&format!("{{proxy_url: '{proxy}', follow_redirects: false}}"));
        let url = parse_url("http://elsewhere.test/x").expect("a URL");
        let error = config.post_json(url, &1).await.expect("sent").check(&[]).expect_err("a redirect");
        assert_eq!(error.message, "unexpected status code 302");
        assert_eq!(server.heard()[0].header("host"), "elsewhere.test", "the proxy was asked");
        http("{}").post_json(server.url("/x"), &1).await.expect("sent").check(&[]).expect("followed");
        assert_eq!(server.heard()[2].path, "/there");
    }

    #[tokio::test]
    async fn an_error_keeps_the_address_to_itself() {
        let url = parse_url("http://127.0.0.1:1/secret").expect("a URL");
        let error = http("{}").post_json(url, &1).await.expect_err("nobody listens");
        assert!(error.retry && !error.message.contains("secret"), "{error}");
    }
}
