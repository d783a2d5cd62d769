//! Requests to others with the credentials of an [`HttpConfig`].

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;
use reqwest::{Client, ClientBuilder, RequestBuilder};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use crate::http_config::{HttpConfig, HttpConfigError, JWT_BEARER, OAuth2, read, read_secret};
use crate::jwt;

/// A token is renewed this long before it ends.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);
/// A token without an end is asked for again after an hour.
const TOKEN_LIFETIME_SECONDS: u64 = 3_600;
/// How long a signed assertion may be used.
const ASSERTION_LIFETIME_S: i64 = 600;
/// Asking for a token may take so long.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);
/// More of a refusal is not read, nor repeated in an error.
const MAX_TOKEN_BYTES: usize = 64 << 10;
const MAX_SAID_CHARS: usize = 1_000;

/// A way to others: a client made when it is first needed, and the credentials for it.
pub struct HttpClient {
    pub config: HttpConfig,
    client: OnceLock<Client>,
    /// OAuth2's access token and when it ends.
    token: Mutex<Option<(String, Instant)>>,
}

/// Why a request could not be made, or a token not be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    #[error(transparent)]
    Config(#[from] HttpConfigError),
    #[error("{0}")]
    Token(String),
}

impl HttpClient {
    pub fn new(config: HttpConfig) -> HttpClient {
        HttpClient { config, client: OnceLock::new(), token: Mutex::new(None) }
    }

    /// The client; `with` adds what is not the configuration's, such as timeouts, the first time.
    pub fn client(&self, with: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Result<&Client, HttpConfigError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = self.config.apply(with(crate::http::client()))?.build();
        let client = client.map_err(|error| HttpConfigError::Unread(chain(&error)))?;
        Ok(self.client.get_or_init(|| client))
    }

    /// A request with the configuration's credentials and headers.
    pub async fn authorized(&self, mut request: RequestBuilder) -> Result<RequestBuilder, ClientError> {
        request = self.with_credentials(request).await?;
        for (name, header) in &self.config.http_headers {
            for value in header.values.iter().chain(&header.secrets) {
                request = request.header(name, value);
            }
            for path in &header.files {
                request = request.header(name, read_secret(path)?);
            }
        }
        Ok(request)
    }

    async fn with_credentials(&self, request: RequestBuilder) -> Result<RequestBuilder, ClientError> {
        if let Some(auth) = &self.config.authorization {
            let credentials = read(&auth.credentials, &auth.credentials_file)?;
            return Ok(with_secret(request, &format!("{} {credentials}", auth.scheme)));
        }
        if let Some(auth) = &self.config.basic_auth {
            let password = read(&auth.password, &auth.password_file)?;
            return Ok(request.basic_auth(read(&auth.username, &auth.username_file)?, Some(password)));
        }
        if let Some(oauth2) = &self.config.oauth2 {
            let token = self.token(oauth2).await?;
            return Ok(with_secret(request, &format!("Bearer {token}")));
        }
        Ok(request)
    }

    /// An access token, asked for once and then kept until shortly before it ends.
    async fn token(&self, oauth2: &OAuth2) -> Result<String, ClientError> {
        let mut known = self.token.lock().await;
        if let Some((token, ends)) = &*known
            && Instant::now() < *ends
        {
            return Ok(token.clone());
        }
        let failed = |error: reqwest::Error| ClientError::Token(chain(&error.without_url()));
        let client = oauth2.apply(crate::http::client().timeout(TOKEN_TIMEOUT))?.build().map_err(failed)?;
        let request = client.post(&oauth2.token_url);
        let request = if oauth2.is_signed() { with_assertion(request, oauth2)? } else { with_client(request, oauth2)? };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        let mut body = Vec::new();
        while body.len() < MAX_TOKEN_BYTES
            && let Some(chunk) = response.chunk().await.map_err(failed)?
        {
            body.extend_from_slice(&chunk[..chunk.len().min(MAX_TOKEN_BYTES - body.len())]);
        }
        let said = || String::from_utf8_lossy(&body).chars().take(MAX_SAID_CHARS).collect::<String>();
        if !status.is_success() {
            return Err(ClientError::Token(format!("oauth2: cannot fetch token: {status}: {}", said())));
        }
        #[derive(Deserialize)]
        struct Granted {
            access_token: String,
            expires_in: Option<u64>,
        }
        let granted: Granted = serde_json::from_slice(&body)
            .map_err(|error| ClientError::Token(format!("could not unmarshal JSON response: {error}")))?;
        let lifetime = Duration::from_secs(granted.expires_in.unwrap_or(TOKEN_LIFETIME_SECONDS).min(365 * 86_400));
        *known = Some((granted.access_token.clone(), Instant::now() + lifetime.saturating_sub(TOKEN_MARGIN)));
        Ok(granted.access_token)
    }
}

/// The grant `client_credentials`.
fn with_client(request: RequestBuilder, oauth2: &OAuth2) -> Result<RequestBuilder, HttpConfigError> {
    let secret = read(&oauth2.client_secret, &oauth2.client_secret_file)?;
    let mut form = vec![("grant_type", "client_credentials".to_owned())];
    if !oauth2.scopes.is_empty() {
        form.push(("scope", oauth2.scopes.join(" ")));
    }
    form.extend(oauth2.endpoint_params.iter().map(|(name, value)| (name.as_str(), value.clone())));
    Ok(request.basic_auth(&oauth2.client_id, Some(secret)).form(&form))
}

/// The grant `jwt-bearer`; the claims are those of Prometheus' `common`.
fn with_assertion(request: RequestBuilder, oauth2: &OAuth2) -> Result<RequestBuilder, HttpConfigError> {
    let key = read(&oauth2.client_certificate_key, &oauth2.client_certificate_key_file)?;
    let or = |own: &str, other: &str| if own.is_empty() { other.to_owned() } else { own.to_owned() };
    let now_s = model::now_ms() / 1000;
    let mut claims = json!({
        "iss": or(&oauth2.iss, &oauth2.client_id), "sub": oauth2.client_id, "aud": or(&oauth2.audience, &oauth2.token_url),
        "jti": uuid::Uuid::new_v4().to_string(), "iat": now_s, "exp": now_s + ASSERTION_LIFETIME_S,
    });
    if !oauth2.scopes.is_empty() {
        claims["scope"] = oauth2.scopes.join(" ").into();
    }
    for (name, value) in &oauth2.claims {
        claims[name] = value.clone();
    }
    let assertion = jwt::sign(&claims, &key, &oauth2.client_certificate_key_id, oauth2.signature_algorithm)?;
    Ok(request.form(&[("grant_type", JWT_BEARER), ("assertion", &assertion)]))
}

/// An `Authorization` header that no log shows.
pub fn with_secret(request: RequestBuilder, value: &str) -> RequestBuilder {
    match HeaderValue::from_str(value) {
        Ok(mut header) => {
            header.set_sensitive(true);
            request.header("authorization", header)
        }
        // Refused when it is sent.
        Err(_) => request.header("authorization", value),
    }
}

/// An error with its causes: a bare "error sending request" helps nobody.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
