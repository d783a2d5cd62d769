//! What groups reach the outside through, and how alerts look when they leave.

use std::sync::Arc;

use model::{Alert, Labels, RelabelConfig};

use crate::status::Stats;
use crate::{Appender, Evaluator};

#[derive(Clone)]
pub struct Seams {
    pub evaluator: Arc<dyn Evaluator>,
    pub appender: Arc<dyn Appender>,
    pub stats: Arc<Stats>,
    pub tenant: String,
    pub external_labels: Labels,
    pub external_url: String,
    pub alert_relabel: Vec<RelabelConfig>,
}

impl Seams {
    /// Where a person sees the expression behind an alert.
    pub fn generator_url(&self, expr: &str) -> String {
        let query: String = expr
            .bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
                other => format!("%{other:02X}"),
            })
            .collect();
        format!("{}/#/explore?q={query}", self.external_url.trim_end_matches('/'))
    }

    /// An alert as it leaves: external labels where they are absent, then relabelled; `None` when that drops it.
    pub fn outgoing(&self, mut alert: Alert) -> Option<Alert> {
        let mut labels = alert.labels.to_builder();
        for label in self.external_labels.iter().filter(|label| alert.labels.get(&label.name).is_none()) {
            labels.set(label.name.clone(), label.value.clone());
        }
        alert.labels = model::relabel(&labels.build(), &self.alert_relabel)?;
        Some(alert)
    }
}
