//! A title and a value side by side: what Slack, Mattermost and Rocket.Chat call a field of an attachment.

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::NotifyError;
use super::render::Render;

#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Field {
    title: String,
    value: String,
    short: Option<bool>,
}

impl Field {
    /// Refuses what has no title or no value, for vendors that want both.
    pub fn check(&self, vendor: &str) -> Result<(), String> {
        match (self.title.is_empty(), self.value.is_empty()) {
            (true, _) => Err(format!("missing title in {vendor} field configuration")),
            (_, true) => Err(format!("missing value in {vendor} field configuration")),
            _ => Ok(()),
        }
    }

    /// As JSON; where the field itself does not say whether it is short, `short` does.
    pub fn render(&self, render: &Render, short: Option<bool>) -> Result<Json, NotifyError> {
        let mut said = json!({ "title": render.text(&self.title)?, "value": render.text(&self.value)? });
        if let Some(short) = self.short.or(short) {
            said["short"] = short.into();
        }
        Ok(said)
    }
}
