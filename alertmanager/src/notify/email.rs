//! Email by SMTP: multipart/alternative, text and HTML, both from templates.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use serde::Deserialize;
use template::{Functions, Mode, Templates, Value};

use super::{Notice, NotifyError, read_secret};

const SMTPS_PORT: u16 = 465;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmailConfig {
    pub send_resolved: bool,
    to: String,
    from: String,
    hello: String,
    smarthost: String,
    auth_username: String,
    auth_password: String,
    auth_password_file: Option<PathBuf>,
    require_tls: Option<bool>,
    headers: BTreeMap<String, String>,
    html: Option<String>,
    text: Option<String>,
}

/// What `global` says of mail.
#[derive(Debug, Clone)]
pub struct SmtpDefaults {
    pub from: String,
    pub hello: String,
    pub smarthost: String,
    pub auth_username: String,
    pub auth_password: String,
    pub auth_password_file: Option<PathBuf>,
    pub require_tls: bool,
}

impl EmailConfig {
    /// Fills what the receiver leaves open from `global`.
    pub fn join(mut self, global: &SmtpDefaults) -> Result<EmailConfig, String> {
        let or = |own: String, global: &String| if own.is_empty() { global.clone() } else { own };
        self.smarthost = or(self.smarthost, &global.smarthost);
        self.from = or(self.from, &global.from);
        self.hello = or(self.hello, &global.hello);
        self.auth_username = or(self.auth_username, &global.auth_username);
        if self.auth_password.is_empty() && self.auth_password_file.is_none() {
            self.auth_password = global.auth_password.clone();
            self.auth_password_file = global.auth_password_file.clone();
        }
        self.require_tls = Some(self.require_tls.unwrap_or(global.require_tls));
        if self.to.is_empty() {
            return Err("email_configs: missing to address".to_owned());
        }
        if self.smarthost.is_empty() {
            return Err("email_configs: no global SMTP smarthost set".to_owned());
        }
        if self.from.is_empty() {
            return Err("email_configs: no global SMTP from set".to_owned());
        }
        self.host_and_port()?;
        Ok(self)
    }

    fn host_and_port(&self) -> Result<(&str, u16), String> {
        let split = self.smarthost.rsplit_once(':');
        let parsed = split.and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse().ok()?)));
        parsed.ok_or_else(|| format!("email_configs: address {:?}: a port is needed", self.smarthost))
    }

    fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, NotifyError> {
        let (host, port) = self.host_and_port().map_err(NotifyError::for_good)?;
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(port)
            .hello_name(ClientId::Domain(self.hello.clone()))
            .timeout(Some(super::ATTEMPT_TIMEOUT));
        let tls = || TlsParameters::new(host.to_owned()).map_err(NotifyError::for_good);
        if port == SMTPS_PORT {
            builder = builder.tls(Tls::Wrapper(tls()?));
        } else if self.require_tls != Some(false) {
            builder = builder.tls(Tls::Required(tls()?));
        }
        if !self.auth_username.is_empty() {
            let password =
                self.auth_password_file.as_deref().map_or_else(|| Ok(self.auth_password.clone()), read_secret)?;
            builder = builder.credentials(Credentials::new(self.auth_username.clone(), password));
        }
        Ok(builder.build())
    }
}

/// Fills in templates for one notice.
struct Render<'a> {
    templates: &'a Templates,
    dot: Value,
    functions: Functions,
}

impl Render<'_> {
    fn text(&self, template: &str, mode: Mode) -> Result<String, NotifyError> {
        self.templates.expand(template, &self.dot, &self.functions, mode).map_err(NotifyError::for_good)
    }

    /// A header's value: one line, whatever labels say.
    fn header(&self, template: &str) -> Result<String, NotifyError> {
        Ok(self.text(template, Mode::Text)?.replace(['\r', '\n'], " "))
    }

    fn mailboxes(&self, template: &str) -> Result<Vec<Mailbox>, NotifyError> {
        let list = self.header(template)?;
        let parse =
            |one: &str| one.trim().parse().map_err(|error| NotifyError::for_good(format!("address {one:?}: {error}")));
        list.split(',').filter(|one| !one.trim().is_empty()).map(parse).collect()
    }
}

fn message(config: &EmailConfig, notice: &Notice, templates: &Templates) -> Result<Message, NotifyError> {
    let functions = template::alertmanager_functions(notice.now_ms);
    let render = Render { templates, dot: notice.to_value(), functions };
    let header =
        |name: &str| config.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let subject = header("Subject").map_or(r#"{{ template "email.default.subject" . }}"#, String::as_str);
    let mut builder = Message::builder().subject(render.header(subject)?).message_id(None);
    for from in render.mailboxes(header("From").unwrap_or(&config.from))? {
        builder = builder.from(from);
    }
    for to in render.mailboxes(&config.to)? {
        builder = builder.to(to);
    }
    let html = config.html.as_deref().unwrap_or(r#"{{ template "email.default.html" . }}"#);
    let text = config.text.as_deref().unwrap_or(r#"{{ template "email.default.text" . }}"#);
    let body = MultiPart::alternative_plain_html(render.text(text, Mode::Text)?, render.text(html, Mode::Html)?);
    let mut message = builder.multipart(body).map_err(NotifyError::for_good)?;
    let special = ["subject", "from", "to"];
    for (name, value) in
        config.headers.iter().filter(|(name, _)| !special.contains(&name.to_ascii_lowercase().as_str()))
    {
        let header = HeaderName::new_from_ascii(name.clone()).map_err(NotifyError::for_good)?;
        message.headers_mut().insert_raw(HeaderValue::new(header, render.header(value)?));
    }
    Ok(message)
}

pub async fn send(config: &EmailConfig, notice: &Notice, templates: &Templates) -> Result<(), NotifyError> {
    let message = message(config, notice, templates)?;
    let sent = config.transport()?.send(message).await;
    // A permanent refusal (5xx) stays one; everything else may pass.
    sent.map(drop).map_err(|error| NotifyError { retry: !error.is_permanent(), message: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::data::tests::notice;
    use crate::notify::default_templates;

    fn nothing() -> SmtpDefaults {
        let empty = String::new;
        SmtpDefaults {
            from: empty(),
            hello: "localhost".into(),
            smarthost: empty(),
            auth_username: empty(),
            auth_password: empty(),
            auth_password_file: None,
            require_tls: true,
        }
    }

    fn config() -> EmailConfig {
        let global = SmtpDefaults { smarthost: "mail:25".into(), from: "Binnacle <b@x.org>".into(), ..nothing() };
        let own = EmailConfig {
            to: "{{ .Receiver }}@x.org, two@x.org".into(),
            headers: [("X-Group".to_owned(), "{{ .GroupLabels.alertname }}\nBcc: evil@x.org".to_owned())].into(),
            ..EmailConfig::default()
        };
        own.join(&global).expect("complete")
    }

    #[test]
    fn a_mail_has_both_bodies_and_its_headers() {
        let message = message(&config(), &notice(), &default_templates()).expect("a message");
        let text = String::from_utf8(message.formatted()).expect("UTF-8");
        for part in [
            "Subject: [FIRING:1] Down (page)",
            "From: Binnacle <b@x.org>",
            "team@x.org",
            "two@x.org",
            "Message-ID: <",
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
    fn what_is_missing_is_said() {
        let joined =
            EmailConfig { to: "a@b".into(), smarthost: "mail".into(), from: "c@d".into(), ..EmailConfig::default() };
        assert!(joined.join(&nothing()).expect_err("no port").contains("port"));
        assert!(config().transport().is_ok());
    }
}
