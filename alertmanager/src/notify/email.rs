//! Email by SMTP: multipart/alternative, text and HTML, both from templates.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use lettre::Message;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::client::{Certificate, CertificateStore, Identity, TlsParameters, TlsVersion};
use serde::Deserialize;

use super::http::Http;
use super::render::Render;
use super::setting::{Secret, or};
use super::smtp::{Encryption, Login, Server};
use super::{Configured, Global, Integration, Memory, Notifier, NotifyError};
use service::http_config::TlsConfig;

const SMTPS_PORT: u16 = 465;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmailConfig {
    send_resolved: bool,
    to: String,
    from: String,
    hello: String,
    smarthost: String,
    auth_username: String,
    auth_password: String,
    auth_password_file: Option<PathBuf>,
    auth_secret: String,
    auth_secret_file: Option<PathBuf>,
    auth_identity: String,
    require_tls: Option<bool>,
    tls_config: Option<TlsConfig>,
    force_implicit_tls: Option<bool>,
    headers: BTreeMap<String, String>,
    html: Option<String>,
    text: Option<String>,
    threading: Threading,
}

/// Whether the mails of a group, or those of a day, hang together in a reader's mailbox.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Threading {
    enabled: bool,
    thread_by_date: String,
}

pub struct Email {
    config: EmailConfig,
    password: Option<Secret>,
    secret: Option<Secret>,
}

impl EmailConfig {
    /// Fills what the receiver leaves open from `global`.
    fn join(mut self, global: &Global) -> Result<EmailConfig, String> {
        self.smarthost = or(self.smarthost, &global.smtp_smarthost);
        self.from = or(self.from, &global.smtp_from);
        self.hello = or(self.hello, &global.smtp_hello);
        self.auth_username = or(self.auth_username, &global.smtp_auth_username);
        self.auth_secret = or(self.auth_secret, &global.smtp_auth_secret);
        self.auth_secret_file = self.auth_secret_file.or_else(|| global.smtp_auth_secret_file.clone());
        self.auth_identity = or(self.auth_identity, &global.smtp_auth_identity);
        if self.auth_password.is_empty() && self.auth_password_file.is_none() {
            self.auth_password = global.smtp_auth_password.clone();
            self.auth_password_file = global.smtp_auth_password_file.clone();
        }
        self.require_tls = Some(self.require_tls.unwrap_or(global.smtp_require_tls));
        self.force_implicit_tls = self.force_implicit_tls.or(global.smtp_force_implicit_tls);
        self.tls_config = self.tls_config.or_else(|| global.smtp_tls_config.clone());
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<(), String> {
        if self.to.is_empty() {
            return Err("missing to address in email config".to_owned());
        }
        let mut names: Vec<String> = self.headers.keys().map(|name| canonical(name)).collect();
        names.sort();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("duplicate header {:?} in email config", twice[0]));
        }
        if self.threading.enabled {
            if let Some(name) = ["References", "In-Reply-To"].iter().find(|name| names.iter().any(|one| one == *name)) {
                return Err(format!(
                    "conflicting configuration: threading.enabled conflicts with custom {name} header"
                ));
            }
            if !["none", "daily"].contains(&self.threading.thread_by_date.as_str()) {
                return Err("threading.thread_by_date must be either 'none' or 'daily'".to_owned());
            }
        }
        if self.smarthost.is_empty() {
            return Err("no global SMTP smarthost set".to_owned());
        }
        if self.from.is_empty() {
            return Err("no global SMTP from set".to_owned());
        }
        self.tls_config.as_ref().map_or(Ok(()), TlsConfig::check)?;
        self.host_and_port().map(drop)
    }

    fn host_and_port(&self) -> Result<(&str, u16), String> {
        let split = self.smarthost.rsplit_once(':');
        let (host, port) = split.ok_or_else(|| format!("address {}: missing port in address", self.smarthost))?;
        if port.is_empty() {
            return Err(format!("address {:?}: port cannot be empty", self.smarthost));
        }
        let port = port.parse().map_err(|_| format!("address {:?}: {port:?} is not a port", self.smarthost))?;
        Ok((host.trim_matches(['[', ']']), port))
    }

    fn tls(&self, host: &str) -> Result<TlsParameters, NotifyError> {
        let named = self.tls_config.as_ref().filter(|config| config.names_server());
        let name = named.map_or(host, |config| &config.server_name);
        let mut builder = TlsParameters::builder(name.to_owned());
        if let Some(config) = &self.tls_config {
            if let Some((certificate, key)) = config.read_identity()? {
                // lettre 0.11 takes the certificate's bytes as they are, which must be DER, and no chain.
                let certificate = first_certificate(&certificate)
                    .ok_or_else(|| NotifyError::for_good("tls_config.cert is no certificate in PEM"))?;
                let identity = Identity::from_pem(&certificate, key.as_bytes());
                builder = builder.identify_with(identity.map_err(NotifyError::for_good)?);
            }
            if config.wants_tls_1_3() {
                builder = builder.set_min_tls_version(TlsVersion::Tlsv13);
            }
            let ca = config.read_ca()?;
            if !ca.is_empty() {
                // Instead of the system's, as everywhere.
                let root = Certificate::from_pem(ca.as_bytes()).map_err(NotifyError::for_good)?;
                builder = builder.certificate_store(CertificateStore::None).add_root_certificate(root);
            }
            builder = builder.dangerous_accept_invalid_certs(config.insecure_skip_verify);
        }
        builder.build().map_err(NotifyError::for_good)
    }
}

/// The first certificate of a text in PEM, as DER.
fn first_certificate(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----")?;
    let (inside, _) = rest.split_once("-----END CERTIFICATE-----")?;
    STANDARD.decode(inside.split_whitespace().collect::<String>()).ok()
}

/// A header's name as it is usually written: `X-Group`.
fn canonical(name: &str) -> String {
    let part = |part: &str| {
        let mut letters = part.chars();
        letters.next().map_or(String::new(), |first| {
            first.to_ascii_uppercase().to_string() + &letters.as_str().to_ascii_lowercase()
        })
    };
    name.split('-').map(part).collect::<Vec<_>>().join("-")
}

impl Configured for EmailConfig {
    fn build(self, global: &Global) -> Result<Integration, String> {
        let config = self.join(global)?;
        let password = Secret::pick("auth_password", &config.auth_password, &config.auth_password_file)?;
        let secret = Secret::pick("auth_secret", &config.auth_secret, &config.auth_secret_file)?;
        Ok(Arc::new(Email { config, password, secret }))
    }
}

impl Email {
    fn server(&self) -> Result<Server<'_>, NotifyError> {
        let config = &self.config;
        let (host, port) = config.host_and_port().map_err(NotifyError::for_good)?;
        let encryption = if config.force_implicit_tls.unwrap_or(port == SMTPS_PORT) {
            Encryption::AtOnce(config.tls(host)?)
        } else if config.require_tls != Some(false) {
            Encryption::Upgraded(config.tls(host)?)
        } else {
            Encryption::Never
        };
        let read = |secret: &Option<Secret>| secret.as_ref().map(Secret::read).transpose();
        let login = Login {
            username: config.auth_username.clone(),
            password: read(&self.password)?,
            secret: read(&self.secret)?,
            identity: config.auth_identity.clone(),
        };
        Ok(Server { host, port, hello: &config.hello, encryption, login })
    }

    async fn deliver(&self, render: &Render<'_>) -> Result<Memory, NotifyError> {
        self.server()?.deliver(&message(&self.config, render)?).await?;
        Ok(Memory::new())
    }
}

impl Notifier for Email {
    fn kind(&self) -> &'static str {
        "email"
    }

    fn send_resolved(&self) -> bool {
        self.config.send_resolved
    }

    fn http(&self) -> Option<&Http> {
        None
    }

    fn send<'a>(&'a self, render: &'a Render<'a>) -> BoxFuture<'a, Result<Memory, NotifyError>> {
        Box::pin(self.deliver(render))
    }
}

/// A header's value: one line, whatever labels say.
fn header(render: &Render, template: &str) -> Result<String, NotifyError> {
    Ok(render.text(template)?.replace(['\r', '\n'], " "))
}

fn mailboxes(render: &Render, template: &str) -> Result<Vec<Mailbox>, NotifyError> {
    let list = header(render, template)?;
    let parse =
        |one: &str| one.trim().parse().map_err(|error| NotifyError::for_good(format!("address {one:?}: {error}")));
    list.split(',').filter(|one| !one.trim().is_empty()).map(parse).collect()
}

/// A name of no mail, under which readers put a group's mails together.
fn thread(threading: &Threading, render: &Render) -> String {
    let today = chrono::DateTime::from_timestamp_millis(render.notice.now_ms).unwrap_or_default();
    let date = if threading.thread_by_date == "none" { String::new() } else { today.format("%Y-%m-%d").to_string() };
    format!("<alert-{}-{date}@alertmanager>", &render.notice.key_hash()[..16])
}

fn message(config: &EmailConfig, render: &Render) -> Result<Message, NotifyError> {
    let own =
        |name: &str| config.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let subject = own("Subject").map_or(r#"{{ template "email.default.subject" . }}"#, String::as_str);
    let mut builder = Message::builder().subject(header(render, subject)?);
    if own("Message-Id").is_none() {
        builder = builder.message_id(None);
    }
    for from in mailboxes(render, own("From").unwrap_or(&config.from))? {
        builder = builder.from(from);
    }
    for to in mailboxes(render, own("To").unwrap_or(&config.to))? {
        builder = builder.to(to);
    }
    let html = config.html.as_deref().unwrap_or(r#"{{ template "email.default.html" . }}"#);
    let text = config.text.as_deref().unwrap_or(r#"{{ template "email.default.text" . }}"#);
    let body = MultiPart::alternative_plain_html(render.text(text)?, render.html(html)?);
    let mut message = builder.multipart(body).map_err(NotifyError::for_good)?;
    let special = ["subject", "from", "to"];
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in &config.headers {
        if !special.contains(&name.to_ascii_lowercase().as_str()) {
            headers.push((canonical(name), header(render, value)?));
        }
    }
    if config.threading.enabled {
        let root = thread(&config.threading, render);
        headers.extend(["References", "In-Reply-To"].map(|name| (name.to_owned(), root.clone())));
    }
    for (name, value) in headers {
        let name = HeaderName::new_from_ascii(name).map_err(NotifyError::for_good)?;
        message.headers_mut().insert_raw(HeaderValue::new(name, value));
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use parking_lot::Mutex;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::rustls::server::WebPkiClientVerifier;
    use tokio_rustls::rustls::{RootCertStore, ServerConfig};

    use super::*;
    use crate::notify::data::tests::notice;
    use crate::notify::default_templates;
    use crate::notify::smtp::tests::converse;
    use crate::notify::tests::{KEY_HASH, check_settings};

    fn check(yaml: &str, expected: Result<(), &str>) {
        check_settings::<EmailConfig>(yaml, expected);
    }

    #[test]
    fn settings() {
        check("{to: a@b, from: c@d, smarthost: 'mail:25'}", Ok(()));
        check("{from: c@d, smarthost: 'mail:25'}", Err("missing to address in email config"));
        check("{to: a@b, from: c@d}", Err("no global SMTP smarthost set"));
        check("{to: a@b, smarthost: 'mail:25'}", Err("no global SMTP from set"));
        check("{to: a@b, from: c@d, smarthost: mail}", Err("missing port in address"));
        check("{to: a@b, from: c@d, smarthost: 'mail:'}", Err("port cannot be empty"));
        let rest = "to: a@b, from: c@d, smarthost: 'mail:25'";
        check(&format!("{{{rest}, headers: {{x-a: b, X-A: c}}}}"), Err("duplicate header \"X-A\" in email config"));
        check(&format!("{{{rest}, threading: {{enabled: true}}}}"), Err("must be either 'none' or 'daily'"));
        check(
            &format!("{{{rest}, headers: {{references: x}}, threading: {{enabled: true, thread_by_date: none}}}}"),
            Err("threading.enabled conflicts with custom References header"),
        );
        check(&format!("{{{rest}, auth_secret: x, tls_config: {{server_name: s, min_version: TLS10}}}}"), Ok(()));
        check(&format!("{{{rest}, auth_secret: x, auth_secret_file: y}}"), Err("at most one of auth_secret &"));
        check(&format!("{{{rest}, auth_password: x, auth_password_file: y}}"), Err("at most one of auth_password &"));
    }

    fn mail(yaml: &str) -> String {
        let config: EmailConfig = serde_saphyr::from_str(yaml).expect("YAML");
        let mut global = Global::default();
        (global.smtp_smarthost, global.smtp_from) = ("mail:25".into(), "Binnacle <b@x.org>".into());
        let config = config.join(&global).expect("complete");
        let (notice, templates) = (notice(), default_templates());
        let message = message(&config, &Render::new(&notice, &templates)).expect("a message");
        String::from_utf8(message.formatted()).expect("UTF-8")
    }

    #[test]
    fn a_mail_has_both_bodies_and_its_headers() {
        let text = mail(
            "{to: '{{ .Receiver }}@x.org, two@x.org', headers: {x-group: \"{{ .GroupLabels.alertname }}\\nBcc: evil@x.org\"}}",
        );
        for part in [
            "Subject: [FIRING:1] Down (page)",
            "From: Binnacle <b@x.org>",
            "team@x.org",
            "two@x.org",
            "Message-ID: <",
            "X-Group: Down Bcc: evil@x.org",
            "multipart/alternative",
            "text/plain",
            "text/html",
            "quoted-printable",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("\nBcc:"), "a label must not add a header: {text}");
    }

    #[test]
    fn a_group_is_a_thread() {
        let text = mail("{to: a@x.org, threading: {enabled: true, thread_by_date: daily}}");
        let root = format!("<alert-{}-1970-01-01@alertmanager>", &KEY_HASH[..16]);
        assert!(
            text.contains(&format!("References: {root}")) && text.contains(&format!("In-Reply-To: {root}")),
            "{text}"
        );
    }

    /// A server that speaks TLS at once, and wants to see a certificate; what it hears.
    async fn tls_server(dir: &Path) -> (u16, Arc<Mutex<Vec<String>>>) {
        service::http::install_tls_provider();
        let certificate = CertificateDer::from_pem_file(dir.join("mail_cert.pem")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(dir.join("mail_key.pem")).expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a root");
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("a verifier");
        let config = ServerConfig::builder().with_client_cert_verifier(verifier);
        let config = config.with_single_cert(vec![certificate], key).expect("a configuration");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let (inbox, acceptor) = (heard.clone(), TlsAcceptor::from(Arc::new(config)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = converse(stream, "PLAIN", &inbox).await;
                }
            }
        });
        (port, heard)
    }

    /// Sends with these TLS settings; whether it was taken.
    async fn check_tls(settings: &str, expected: bool) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/notify/testdata");
        let (port, heard) = tls_server(&dir).await;
        let ca = dir.join("mail_cert.pem").display().to_string();
        let settings = settings.replace("DIR", &dir.display().to_string());
        let yaml = format!(
            "{{to: a@x.org, from: b@x.org, smarthost: '127.0.0.1:{port}', force_implicit_tls: true, \
             tls_config: {{ca_file: '{ca}'{settings}}}}}"
        );
        let config: EmailConfig = serde_saphyr::from_str(&yaml).expect("YAML");
        let email = config.build(&Global::default()).expect("complete");
        let (notice, templates) = (notice(), default_templates());
        let sent = email.send(&Render::new(&notice, &templates)).await;
        assert_eq!(sent.is_ok(), expected, "{settings}: {sent:?}");
        assert_eq!(heard.lock().iter().any(|line| line == "."), expected, "{settings}");
    }

    #[tokio::test]
    async fn a_server_is_known_by_its_name_and_knows_us_by_our_certificate() {
        let own = ", cert_file: 'DIR/mail_cert.pem', key_file: 'DIR/mail_key.pem'";
        check_tls(&format!("{own}, server_name: mail.test"), true).await;
        check_tls(&format!("{own}, server_name: mail.test, min_version: TLS13"), true).await;
        check_tls(&format!("{own}, server_name: mail.test, min_version: TLS10"), true).await;
        check_tls(own, false).await;
        check_tls(&format!("{own}, server_name: other.test"), false).await;
        check_tls(", server_name: mail.test", false).await;
    }
}
