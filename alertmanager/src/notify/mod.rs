//! Delivery: one file per integration. An integration says whether a failure is worth trying again.

mod data;
mod email;
mod webhook;

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use template::Templates;

pub use data::Notice;
pub use email::{EmailConfig, SmtpDefaults};
pub use webhook::WebhookConfig;

/// One attempt at delivery takes no longer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub enum Integration {
    Webhook(WebhookConfig),
    Email(EmailConfig),
}

/// Why a notification did not go out.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct NotifyError {
    pub message: String,
    /// Whether the same attempt may succeed later.
    pub retry: bool,
}

impl NotifyError {
    fn for_good(message: impl ToString) -> NotifyError {
        NotifyError { message: message.to_string(), retry: false }
    }

    fn for_now(message: impl ToString) -> NotifyError {
        NotifyError { message: message.to_string(), retry: true }
    }
}

impl Integration {
    pub fn kind(&self) -> &'static str {
        match self {
            Integration::Webhook(_) => "webhook",
            Integration::Email(_) => "email",
        }
    }

    pub fn send_resolved(&self) -> bool {
        match self {
            Integration::Webhook(config) => config.send_resolved,
            Integration::Email(config) => config.send_resolved,
        }
    }

    /// One attempt.
    pub async fn send(&self, notice: &Notice, templates: &Templates) -> Result<(), NotifyError> {
        let attempt = async {
            match self {
                Integration::Webhook(config) => webhook::send(config, notice).await,
                Integration::Email(config) => email::send(config, notice, templates).await,
            }
        };
        let in_time = tokio::time::timeout(ATTEMPT_TIMEOUT, attempt).await;
        in_time.unwrap_or_else(|_| Err(NotifyError::for_now(format!("no answer within {ATTEMPT_TIMEOUT:?}"))))
    }
}

/// The client of all integrations, made when it is first needed.
fn client() -> Result<&'static reqwest::Client, NotifyError> {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client);
    }
    let client = service::http::client().timeout(ATTEMPT_TIMEOUT).build().map_err(NotifyError::for_now)?;
    Ok(CLIENT.get_or_init(|| client))
}

/// A secret from a file, without the newline that editors leave.
fn read_secret(path: &Path) -> Result<String, NotifyError> {
    let text = std::fs::read_to_string(path);
    text.map(|text| text.trim_end().to_owned())
        .map_err(|error| NotifyError::for_now(format!("{}: {error}", path.display())))
}

/// The templates that are there without any file; users' files may redefine them.
pub fn default_templates() -> Templates {
    let mut templates = Templates::new();
    templates.parse("default.tmpl", include_str!("default.tmpl")).expect("the built-in templates parse");
    templates
}
