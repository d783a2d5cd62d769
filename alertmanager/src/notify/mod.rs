//! Delivery: one file per integration. An integration says whether a failure is worth trying again.
//!
//! Each has its settings as written (`…Config`, every field of Alertmanager 0.34 with its default), which
//! [`Configured::build`] checks and joins with `global` into what [`Notifier::send`] delivers with. Requests, answers,
//! credentials and templates are the same for all: `http`, `setting`, `render`.

/// Makes an integration with `config.send_resolved`, `http` and `deliver` a [`Notifier`].
macro_rules! over_http {
    ($name:ty, $kind:literal) => {
        impl $crate::notify::Notifier for $name {
            fn kind(&self) -> &'static str {
                $kind
            }

            fn send_resolved(&self) -> bool {
                self.config.send_resolved
            }

            fn http(&self) -> Option<&$crate::notify::http::Http> {
                Some(&self.http)
            }

            fn send<'a>(
                &'a self,
                render: &'a $crate::notify::render::Render<'a>,
            ) -> futures::future::BoxFuture<'a, Result<$crate::notify::Memory, $crate::notify::NotifyError>> {
                Box::pin(self.deliver(render))
            }
        }
    };
}

mod aws_keys;
mod data;
mod discord;
mod email;
mod field;
mod global;
mod http;
mod incidentio;
mod jira;
mod mattermost;
mod msteams;
mod msteamsv2;
mod opsgenie;
mod pagerduty;
mod pushover;
mod render;
mod rocketchat;
mod setting;
mod sigv4;
mod slack;
mod smtp;
mod sns;
mod telegram;
#[cfg(test)]
mod tests;
mod victorops;
mod webex;
mod webhook;
mod wechat;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Deserialize;
use template::Templates;

pub use data::{Notice, data_of_json, order};
pub use global::Global;
use http::Http;
use render::Render;
pub use render::route_labels_of;

/// One attempt at delivery takes no longer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// What an integration remembers of a group from one notification to the next, in the notification log.
pub type Memory = BTreeMap<String, String>;

/// A receiver's settings for one integration, as written.
pub trait Configured: Sized {
    /// Checks them and fills what they leave open from `global`.
    fn build(self, global: &Global) -> Result<Integration, String>;
}

/// One integration, ready to deliver.
pub trait Notifier: Send + Sync {
    /// Its name in the configuration and in metrics.
    fn kind(&self) -> &'static str;

    fn send_resolved(&self) -> bool;

    /// The connection it needs, if it is one of HTTP.
    fn http(&self) -> Option<&Http>;

    /// One attempt; answers what to remember of the group.
    fn send<'a>(&'a self, render: &'a Render<'a>) -> BoxFuture<'a, Result<Memory, NotifyError>>;
}

pub type Integration = Arc<dyn Notifier>;

impl fmt::Debug for dyn Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// Why a notification did not go out.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct NotifyError {
    pub message: String,
    /// Whether the same attempt may succeed later.
    pub retry: bool,
    pub reason: Reason,
}

/// The label `reason` of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Other,
    Client,
    Server,
    Auth,
    RateLimited,
    DeadlineExceeded,
    /// It was sent, and no answer came: it may have been taken.
    Unanswered,
}

impl Reason {
    fn of_status(status: u16) -> Reason {
        match status {
            401 | 403 => Reason::Auth,
            429 => Reason::RateLimited,
            400..500 => Reason::Client,
            500..600 => Reason::Server,
            _ => Reason::Other,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Reason::Other | Reason::Unanswered => "other",
            Reason::Client => "clientError",
            Reason::Server => "serverError",
            Reason::Auth => "authError",
            Reason::RateLimited => "rateLimited",
            Reason::DeadlineExceeded => "contextDeadlineExceeded",
        }
    }
}

impl NotifyError {
    fn for_good(message: impl ToString) -> NotifyError {
        NotifyError { message: message.to_string(), retry: false, reason: Reason::Other }
    }

    fn for_now(message: impl ToString) -> NotifyError {
        NotifyError { message: message.to_string(), retry: true, reason: Reason::Other }
    }

    /// The receiver understood and said no.
    fn refused(message: impl ToString) -> NotifyError {
        NotifyError { reason: Reason::Client, ..NotifyError::for_good(message) }
    }

    /// Says first what was being done.
    fn while_doing(self, what: impl fmt::Display) -> NotifyError {
        NotifyError { message: format!("{what}: {}", self.message), ..self }
    }
}

tokio::task_local! {
    /// What requests of the attempt under way say in `Idempotency-Key`.
    static IDEMPOTENCY_KEY: String;
}

/// One attempt of an integration, bounded in time.
pub async fn attempt(
    integration: &Integration,
    notice: &Notice,
    templates: &Templates,
    left: Duration,
) -> Result<Memory, NotifyError> {
    let render = Render::new(notice, templates);
    let limit = left.min(ATTEMPT_TIMEOUT);
    let sending = IDEMPOTENCY_KEY.scope(notice.idempotency_key.clone(), integration.send(&render));
    tokio::time::timeout(limit, sending).await.unwrap_or_else(|_| {
        let message = format!("no answer within {limit:?}");
        Err(NotifyError { reason: Reason::DeadlineExceeded, ..NotifyError::for_now(message) })
    })
}

/// Declares a receiver's lists of integrations.
macro_rules! receiver {
    ($($field:ident: $config:ty,)*) => {
        /// A receiver as written.
        #[derive(Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct RawReceiver {
            pub name: String,
            labels: BTreeMap<String, String>,
            $($field: Vec<Option<$config>>,)*
        }

        impl RawReceiver {
            /// What it can be chosen by; its name is among them.
            pub fn labels(&self) -> model::Labels {
                let labels = self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                model::Labels::from_pairs(labels.chain([("name", self.name.as_str())]))
            }

            /// Its integrations, in this order.
            pub fn build(self, global: &Global) -> Result<Vec<Integration>, String> {
                if let Some(name) = self.labels.get("name").filter(|name| **name != self.name) {
                    return Err(format!(
                        "receiver label \"name\" must match receiver name {:?}, got {name:?}", self.name
                    ));
                }
                let mut integrations = Vec::new();
                $(for config in self.$field {
                    let kind = stringify!($field).trim_end_matches("_configs");
                    let config = config.ok_or_else(|| format!("missing {kind} config"))?;
                    integrations.push(config.build(global)?);
                })*
                Ok(integrations)
            }
        }
    };
}

receiver!(
    webhook_configs: webhook::WebhookConfig,
    email_configs: email::EmailConfig,
    pagerduty_configs: pagerduty::PagerdutyConfig,
    opsgenie_configs: opsgenie::OpsgenieConfig,
    wechat_configs: wechat::WechatConfig,
    slack_configs: slack::SlackConfig,
    victorops_configs: victorops::VictoropsConfig,
    pushover_configs: pushover::PushoverConfig,
    sns_configs: sns::SnsConfig,
    telegram_configs: telegram::TelegramConfig,
    discord_configs: discord::DiscordConfig,
    webex_configs: webex::WebexConfig,
    msteams_configs: msteams::MsteamsConfig,
    msteamsv2_configs: msteamsv2::Msteamsv2Config,
    jira_configs: jira::JiraConfig,
    rocketchat_configs: rocketchat::RocketchatConfig,
    mattermost_configs: mattermost::MattermostConfig,
    incidentio_configs: incidentio::IncidentioConfig,
);

/// The templates that are there without any file; users' files may redefine them.
pub fn default_templates() -> Templates {
    let mut templates = Templates::new();
    templates.parse("default.tmpl", include_str!("default.tmpl")).expect("the built-in templates parse");
    templates.parse("email.tmpl", include_str!("email.tmpl")).expect("the built-in templates parse");
    templates
}
