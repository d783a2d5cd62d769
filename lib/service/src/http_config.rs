//! `http_config`: how another server is reached and who we are to it: what Prometheus' jobs and Alertmanager's receivers
//! share.
//!
//! Files named here are relative to the configuration file, and read at each use, so that secrets may be rotated.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::{Certificate, ClientBuilder, Identity, NoProxy, Proxy, redirect, tls};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Deserialize;

use crate::config::BasicAuth;
use crate::jwt::Algorithm;
use crate::named_server::NamedServer;

/// Why a client cannot be made, or a secret not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HttpConfigError {
    /// It will not be better the next time.
    #[error("{0}")]
    Wrong(String),
    #[error("{0}")]
    Unread(String),
}

fn wrong(error: impl ToString) -> HttpConfigError {
    HttpConfigError::Wrong(error.to_string())
}

/// A secret from a file, without the newline that editors leave.
pub fn read_secret(path: &Path) -> Result<String, HttpConfigError> {
    let text = std::fs::read_to_string(path);
    text.map(|text| text.trim().to_owned())
        .map_err(|error| HttpConfigError::Unread(format!("{}: {error}", path.display())))
}

/// Headers that requests set themselves.
const RESERVED_HEADERS: [&str; 18] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-prometheus-scrape-timeout-seconds",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    pub basic_auth: Option<BasicAuth>,
    pub authorization: Option<Authorization>,
    pub oauth2: Option<OAuth2>,
    pub bearer_token: String,
    pub bearer_token_file: Option<PathBuf>,
    pub tls_config: TlsConfig,
    pub follow_redirects: bool,
    pub enable_http2: bool,
    pub proxy_url: Option<String>,
    pub no_proxy: String,
    pub proxy_from_environment: bool,
    pub proxy_connect_header: BTreeMap<String, Vec<String>>,
    pub http_headers: BTreeMap<String, Header>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            basic_auth: None,
            authorization: None,
            oauth2: None,
            bearer_token: String::new(),
            bearer_token_file: None,
            tls_config: TlsConfig::default(),
            follow_redirects: true,
            enable_http2: true,
            proxy_url: None,
            no_proxy: String::new(),
            proxy_from_environment: false,
            proxy_connect_header: BTreeMap::new(),
            http_headers: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Authorization {
    /// `Bearer` if empty.
    #[serde(rename = "type")]
    pub scheme: String,
    pub credentials: String,
    pub credentials_file: Option<PathBuf>,
}

impl Authorization {
    pub fn bearer(credentials: String, credentials_file: Option<PathBuf>) -> Authorization {
        Authorization { scheme: "Bearer".to_owned(), credentials, credentials_file }
    }
}

/// The grants `client_credentials` (a secret) and `jwt-bearer` (an assertion signed with a key).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OAuth2 {
    pub client_id: String,
    pub client_secret: String,
    pub client_secret_file: Option<PathBuf>,
    pub client_certificate_key: String,
    pub client_certificate_key_file: Option<PathBuf>,
    pub client_certificate_key_id: String,
    pub signature_algorithm: Algorithm,
    /// The client's id if empty.
    pub iss: String,
    /// The token's address if empty.
    pub audience: String,
    /// Claims beside those that every assertion has.
    pub claims: BTreeMap<String, serde_json::Value>,
    grant_type: String,
    pub scopes: Vec<String>,
    pub token_url: String,
    pub endpoint_params: BTreeMap<String, String>,
    tls_config: TlsConfig,
    proxy_url: Option<String>,
    no_proxy: String,
    proxy_from_environment: bool,
    proxy_connect_header: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    pub ca: String,
    pub cert: String,
    pub key: String,
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub server_name: String,
    pub insecure_skip_verify: bool,
    min_version: Option<TlsVersion>,
    max_version: Option<TlsVersion>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
enum TlsVersion {
    #[serde(rename = "TLS10")]
    Tls10,
    #[serde(rename = "TLS11")]
    Tls11,
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Header {
    pub values: Vec<String>,
    pub secrets: Vec<String>,
    pub files: Vec<PathBuf>,
}

/// The grant whose client signs.
pub const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Whether a value and its `_file` are both there.
fn both(value: &str, file: &Option<PathBuf>) -> bool {
    !value.is_empty() && file.is_some()
}

/// A value, or what its file holds.
pub fn read(value: &str, file: &Option<PathBuf>) -> Result<String, HttpConfigError> {
    file.as_deref().map_or_else(|| Ok(value.to_owned()), read_secret)
}

impl HttpConfig {
    /// Refuses what contradicts itself, and makes paths relative to `base`.
    pub fn check(mut self, base: &Path) -> Result<HttpConfig, String> {
        self.check_auth()?;
        if self.authorization.is_none() && (!self.bearer_token.is_empty() || self.bearer_token_file.is_some()) {
            let token = std::mem::take(&mut self.bearer_token);
            self.authorization = Some(Authorization::bearer(token, self.bearer_token_file.take()));
        }
        if let Some(authorization) = &mut self.authorization {
            authorization.scheme = authorization.scheme.trim().to_owned();
            if authorization.scheme.is_empty() {
                authorization.scheme = "Bearer".to_owned();
            }
            if authorization.scheme.eq_ignore_ascii_case("basic") {
                return Err(r#"authorization type cannot be set to "basic", use "basic_auth" instead"#.to_owned());
            }
        }
        if let Some(oauth2) = &self.oauth2 {
            oauth2.check()?;
        }
        self.check_proxy()?;
        self.tls_config.check()?;
        if let Some(name) = self.http_headers.keys().find(|name| RESERVED_HEADERS.contains(&&*name.to_lowercase())) {
            return Err(format!("setting header {name:?} is not allowed"));
        }
        self.resolve(base);
        Ok(self)
    }

    fn check_auth(&self) -> Result<(), String> {
        let has_bearer = !self.bearer_token.is_empty() || self.bearer_token_file.is_some();
        let fault = if both(&self.bearer_token, &self.bearer_token_file) {
            "at most one of bearer_token & bearer_token_file must be configured"
        } else if has_bearer && (self.basic_auth.is_some() || self.oauth2.is_some()) {
            "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured"
        } else if self.basic_auth.as_ref().is_some_and(|auth| both(&auth.username, &auth.username_file)) {
            "at most one of basic_auth username, username_file & username_ref must be configured"
        } else if self.basic_auth.as_ref().is_some_and(|auth| both(&auth.password, &auth.password_file)) {
            "at most one of basic_auth password, password_file & password_ref must be configured"
        } else if self.authorization.is_some() && has_bearer {
            "authorization is not compatible with bearer_token & bearer_token_file"
        } else if self.authorization.as_ref().is_some_and(|auth| both(&auth.credentials, &auth.credentials_file)) {
            "at most one of authorization credentials & credentials_file must be configured"
        } else if [self.authorization.is_some(), self.basic_auth.is_some(), self.oauth2.is_some()]
            .into_iter()
            .filter(|is_set| *is_set)
            .count()
            > 1
        {
            "at most one of basic_auth, oauth2 & authorization must be configured"
        } else {
            return Ok(());
        };
        Err(fault.to_owned())
    }

    fn check_proxy(&self) -> Result<(), String> {
        let (has_url, from_environment) = (self.proxy_url.is_some(), self.proxy_from_environment);
        let fault = if !self.proxy_connect_header.is_empty() && !has_url && !from_environment {
            "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured"
        } else if from_environment && has_url {
            "if proxy_from_environment is configured, proxy_url must not be configured"
        } else if from_environment && !self.no_proxy.is_empty() {
            "if proxy_from_environment is configured, no_proxy must not be configured"
        } else if !has_url && !self.no_proxy.is_empty() {
            "if no_proxy is configured, proxy_url must also be configured"
        } else {
            return Ok(());
        };
        Err(fault.to_owned())
    }

    fn resolve(&mut self, base: &Path) {
        let auth = self.basic_auth.as_mut().map(|auth| [&mut auth.username_file, &mut auth.password_file]);
        let authorization = self.authorization.as_mut().map(|auth| &mut auth.credentials_file);
        let mut paths: Vec<&mut Option<PathBuf>> = auth.into_iter().flatten().chain(authorization).collect();
        let tls = [Some(&mut self.tls_config), None];
        let (oauth_tls, secret) = match &mut self.oauth2 {
            Some(oauth2) => {
                let secrets = [&mut oauth2.client_secret_file, &mut oauth2.client_certificate_key_file];
                (Some(&mut oauth2.tls_config), Some(secrets))
            }
            None => (None, None),
        };
        paths.extend(secret.into_iter().flatten());
        for tls in tls.into_iter().flatten().chain(oauth_tls) {
            paths.extend([&mut tls.ca_file, &mut tls.cert_file, &mut tls.key_file]);
        }
        paths.into_iter().flatten().for_each(|path| *path = base.join(&*path));
        self.http_headers.values_mut().flat_map(|header| &mut header.files).for_each(|path| *path = base.join(&*path));
    }

    /// Whether the shared client will do: nothing here says how to connect.
    pub fn is_plain(&self) -> bool {
        let transport = HttpConfig {
            basic_auth: None,
            authorization: None,
            oauth2: None,
            http_headers: BTreeMap::new(),
            ..self.clone()
        };
        transport == HttpConfig::default()
    }

    pub fn apply(&self, builder: ClientBuilder) -> Result<ClientBuilder, HttpConfigError> {
        let mut builder = self.tls_config.apply(builder)?;
        if !self.follow_redirects {
            builder = builder.redirect(redirect::Policy::none());
        }
        if !self.enable_http2 {
            builder = builder.http1_only();
        }
        let proxy = ProxySettings {
            url: self.proxy_url.as_deref(),
            excluded: &self.no_proxy,
            from_environment: self.proxy_from_environment,
            headers: &self.proxy_connect_header,
        };
        proxy.apply(builder)
    }
}

impl OAuth2 {
    fn check(&self) -> Result<(), String> {
        let fault = if self.client_id.is_empty() {
            "oauth2 client_id must be configured"
        } else if self.token_url.is_empty() {
            "oauth2 token_url must be configured"
        } else if both(&self.client_secret, &self.client_secret_file) {
            "at most one of oauth2 client_secret, client_secret_file & client_secret_ref must be configured using \
             grant-type=client_credentials"
        } else if both(&self.client_certificate_key, &self.client_certificate_key_file) {
            "at most one of oauth2 client_certificate_key & client_certificate_key_file must be configured using \
             grant-type=urn:ietf:params:oauth:grant-type:jwt-bearer"
        } else if self.is_signed()
            && self.client_certificate_key.is_empty()
            && self.client_certificate_key_file.is_none()
        {
            "one of oauth2 client_certificate_key or client_certificate_key_file must be configured using \
             grant-type=urn:ietf:params:oauth:grant-type:jwt-bearer"
        } else if !self.is_signed() && !matches!(self.grant_type.as_str(), "" | "client_credentials") {
            return Err(format!(
                "oauth2 grant_type {:?} is neither client_credentials nor {JWT_BEARER}",
                self.grant_type
            ));
        } else {
            return self.tls_config.check();
        };
        Err(fault.to_owned())
    }

    /// Whether the client is known by what it signs, not by a secret.
    pub fn is_signed(&self) -> bool {
        self.grant_type == JWT_BEARER
    }

    pub fn apply(&self, builder: ClientBuilder) -> Result<ClientBuilder, HttpConfigError> {
        let proxy = ProxySettings {
            url: self.proxy_url.as_deref(),
            excluded: &self.no_proxy,
            from_environment: self.proxy_from_environment,
            headers: &self.proxy_connect_header,
        };
        proxy.apply(self.tls_config.apply(builder)?)
    }
}

struct ProxySettings<'a> {
    url: Option<&'a str>,
    excluded: &'a str,
    from_environment: bool,
    headers: &'a BTreeMap<String, Vec<String>>,
}

impl ProxySettings<'_> {
    /// Without any setting no proxy is used, whatever the environment says.
    fn apply(&self, builder: ClientBuilder) -> Result<ClientBuilder, HttpConfigError> {
        if self.from_environment {
            return Ok(builder);
        }
        let Some(url) = self.url else { return Ok(builder.no_proxy()) };
        let proxy = Proxy::all(url).map_err(wrong)?;
        let mut headers = reqwest::header::HeaderMap::new();
        for (name, value) in
            self.headers.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
        {
            let name = reqwest::header::HeaderName::try_from(name).map_err(wrong)?;
            headers.append(name, value.try_into().map_err(wrong)?);
        }
        Ok(builder.proxy(proxy.no_proxy(NoProxy::from_string(self.excluded)).headers(headers)))
    }
}

impl TlsConfig {
    pub fn check(&self) -> Result<(), String> {
        let fault = if both(&self.ca, &self.ca_file) {
            "at most one of ca and ca_file must be configured"
        } else if both(&self.cert, &self.cert_file) {
            "at most one of cert and cert_file must be configured"
        } else if both(&self.key, &self.key_file) {
            "at most one of key and key_file must be configured"
        } else if self.has_cert() && !self.has_key() {
            "exactly one of key or key_file must be configured when a client certificate is configured"
        } else if self.has_key() && !self.has_cert() {
            "exactly one of cert or cert_file must be configured when a client key is configured"
        } else if !self.server_name.is_empty() && ServerName::try_from(self.server_name.as_str()).is_err() {
            "tls_config.server_name is no name of a server"
        } else if matches!(self.max_version, Some(TlsVersion::Tls10 | TlsVersion::Tls11)) {
            "tls_config.max_version: only TLS12 and TLS13 are supported"
        } else {
            return Ok(());
        };
        Err(fault.to_owned())
    }

    fn has_cert(&self) -> bool {
        !self.cert.is_empty() || self.cert_file.is_some()
    }

    fn has_key(&self) -> bool {
        !self.key.is_empty() || self.key_file.is_some()
    }

    /// The client's own certificate and its key, in PEM.
    pub fn read_identity(&self) -> Result<Option<(String, String)>, HttpConfigError> {
        if !self.has_cert() {
            return Ok(None);
        }
        Ok(Some((read(&self.cert, &self.cert_file)?, read(&self.key, &self.key_file)?)))
    }

    /// Whether TLS 1.3 is the least. What is asked for below 1.2 is a minimum that 1.2 is above.
    pub fn wants_tls_1_3(&self) -> bool {
        self.min_version == Some(TlsVersion::Tls13)
    }

    /// The certificates to trust, in PEM; empty for those of the system.
    pub fn read_ca(&self) -> Result<String, HttpConfigError> {
        read(&self.ca, &self.ca_file)
    }

    /// Whether the certificate is to be of another name than the address has.
    pub fn names_server(&self) -> bool {
        !self.server_name.is_empty()
    }

    fn apply(&self, mut builder: ClientBuilder) -> Result<ClientBuilder, HttpConfigError> {
        let ca = self.read_ca()?;
        if self.names_server() && !self.insecure_skip_verify {
            return Ok(builder.tls_backend_preconfigured(self.rustls_config(&ca)?));
        }
        if !ca.is_empty() {
            let certificates = Certificate::from_pem_bundle(ca.as_bytes()).map_err(wrong)?;
            builder = builder.tls_certs_only(certificates);
        }
        if let Some((certificate, key)) = self.read_identity()? {
            let pem = format!("{certificate}\n{key}");
            builder = builder.identity(Identity::from_pem(pem.as_bytes()).map_err(wrong)?);
        }
        if self.wants_tls_1_3() {
            builder = builder.tls_version_min(tls::Version::TLS_1_3);
        }
        if self.max_version == Some(TlsVersion::Tls12) {
            builder = builder.tls_version_max(tls::Version::TLS_1_2);
        }
        Ok(builder.tls_danger_accept_invalid_certs(self.insecure_skip_verify))
    }

    /// A handshake that expects `server_name` in the certificate, whatever the address.
    fn rustls_config(&self, ca: &str) -> Result<rustls::ClientConfig, HttpConfigError> {
        crate::http::install_tls_provider();
        let mut roots = RootCertStore::empty();
        if ca.is_empty() {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        } else {
            for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
                roots.add(certificate.map_err(wrong)?).map_err(wrong)?;
            }
        }
        let verifier = NamedServer::new(roots, &self.server_name)?;
        let versions: &[&rustls::SupportedProtocolVersion] = match (self.min_version, self.max_version) {
            (Some(TlsVersion::Tls13), _) => &[&rustls::version::TLS13],
            (_, Some(TlsVersion::Tls12)) => &[&rustls::version::TLS12],
            _ => rustls::ALL_VERSIONS,
        };
        let builder = rustls::ClientConfig::builder_with_protocol_versions(versions)
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let Some((certificate, key)) = self.read_identity()? else { return Ok(builder.with_no_client_auth()) };
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(wrong)?;
        builder.with_client_auth_cert(certificates.map_err(wrong)?, key).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(), &str>) {
        let parsed = serde_saphyr::from_str::<HttpConfig>(text).map_err(|error| error.to_string());
        let checked = parsed.and_then(|config| config.check(Path::new("/etc/am")));
        match (checked, expected) {
            (Ok(_), Ok(())) => {}
            (Err(message), Err(part)) => assert!(message.contains(part), "{message} does not say {part:?}"),
            (checked, expected) => panic!("{text}: {:?} instead of {expected:?}", checked.map(drop)),
        }
    }

    #[test]
    fn contradictions_are_refused() {
        check("{}", Ok(()));
        check("{follow_redirects: false, tls_config: {insecure_skip_verify: true}}", Ok(()));
        check("{bearer_token: a, bearer_token_file: b}", Err("at most one of bearer_token & bearer_token_file"));
        check("{bearer_token: a, basic_auth: {username: u}}", Err("at most one of basic_auth, oauth2, bearer_token"));
        check("{authorization: {type: Basic}}", Err(r#"cannot be set to "basic""#));
        check("{authorization: {}, basic_auth: {}}", Err("at most one of basic_auth, oauth2 & authorization"));
        check("{basic_auth: {password: a, password_file: b}}", Err("basic_auth password, password_file"));
        check("{oauth2: {token_url: 'http://x'}}", Err("oauth2 client_id must be configured"));
        check("{oauth2: {client_id: c}}", Err("oauth2 token_url must be configured"));
        check(
            "{oauth2: {client_id: c, token_url: u, grant_type: jwt}}",
            Err("neither client_credentials nor urn:ietf:"),
        );
        let signed = format!("client_id: c, token_url: u, grant_type: '{JWT_BEARER}'");
        check(&format!("{{oauth2: {{{signed}}}}}"), Err("one of oauth2 client_certificate_key or"));
        check(&format!("{{oauth2: {{{signed}, client_certificate_key_file: k, claims: {{a: [1]}}}}}}"), Ok(()));
        check(
            &format!("{{oauth2: {{{signed}, client_certificate_key_file: k, signature_algorithm: ES256}}}}"),
            Err("ES256"),
        );
        check("{tls_config: {min_version: TLS10}}", Ok(()));
        check("{tls_config: {max_version: TLS11}}", Err("only TLS12 and TLS13"));
        check("{no_proxy: x}", Err("if no_proxy is configured, proxy_url must also be configured"));
        check("{proxy_url: 'http://p', proxy_from_environment: true}", Err("proxy_url must not be configured"));
        check("{http_headers: {User-Agent: {values: [x]}}}", Err("setting header \"User-Agent\" is not allowed"));
        check("{tls_config: {cert_file: c}}", Err("exactly one of key or key_file"));
        check("{tls_config: {server_name: s}}", Ok(()));
        check("{tls_config: {server_name: 's s'}}", Err("no name of a server"));
        check("{tls_config: {min_version: TLS9}}", Err("TLS9"));
        check("{nonsense: 1}", Err("nonsense"));
    }

    #[test]
    fn files_are_beside_the_configuration() {
        let text = "{bearer_token_file: t, tls_config: {ca_file: ca.pem}, http_headers: {X: {files: [/abs]}}}";
        let config: HttpConfig = serde_saphyr::from_str(text).expect("YAML");
        let config = config.check(Path::new("/etc/am")).expect("good");
        let token = config.authorization.clone().and_then(|authorization| authorization.credentials_file);
        assert_eq!(token, Some(PathBuf::from("/etc/am/t")));
        assert_eq!(config.tls_config.ca_file, Some(PathBuf::from("/etc/am/ca.pem")));
        assert_eq!(config.http_headers["X"].files, [PathBuf::from("/abs")]);
        assert!(!config.is_plain() && HttpConfig::default().is_plain());
    }
}
