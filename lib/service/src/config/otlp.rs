//! `otlp`: how OpenTelemetry's metrics become series, in Prometheus' schema and with its defaults.

use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    pub promote_all_resource_attributes: bool,
    pub promote_resource_attributes: Vec<String>,
    /// Not promoted with all others.
    pub ignore_resource_attributes: Vec<String>,
    pub translation_strategy: TranslationStrategy,
    pub keep_identifying_resource_attributes: bool,
    /// Explicit buckets become native histograms with custom bounds.
    pub convert_histograms_to_nhcb: bool,
    pub promote_scope_metadata: bool,
    /// A label that would begin with one underscore begins with `key_`.
    pub label_name_underscore_sanitization: bool,
    pub label_name_preserve_multiple_underscores: bool,
}

impl Default for Otlp {
    fn default() -> Self {
        Otlp {
            promote_all_resource_attributes: false,
            promote_resource_attributes: Vec::new(),
            ignore_resource_attributes: Vec::new(),
            translation_strategy: TranslationStrategy::default(),
            keep_identifying_resource_attributes: false,
            convert_histograms_to_nhcb: false,
            promote_scope_metadata: false,
            label_name_underscore_sanitization: true,
            label_name_preserve_multiple_underscores: true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum TranslationStrategy {
    #[default]
    UnderscoreEscapingWithSuffixes,
    UnderscoreEscapingWithoutSuffixes,
    NoUTF8EscapingWithSuffixes,
    NoTranslation,
}

impl TranslationStrategy {
    /// Whether names are confined to `[a-zA-Z0-9_:]`.
    pub fn escapes(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::UnderscoreEscapingWithoutSuffixes)
    }

    /// Whether names tell the unit and that a metric is a counter.
    pub fn adds_suffixes(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::NoUTF8EscapingWithSuffixes)
    }
}

impl Otlp {
    /// In Prometheus' words.
    pub fn validate(&self) -> Result<(), String> {
        if self.promote_all_resource_attributes {
            if !self.promote_resource_attributes.is_empty() {
                return Err("'promote_all_resource_attributes' and 'promote_resource_attributes' cannot be configured simultaneously".to_owned());
            }
            return check_attributes(&self.ignore_resource_attributes, "ignored")
                .map_err(|reason| format!("invalid 'ignore_resource_attributes': {reason}"));
        }
        if !self.ignore_resource_attributes.is_empty() {
            return Err(
                "'ignore_resource_attributes' cannot be configured unless 'promote_all_resource_attributes' is true"
                    .to_owned(),
            );
        }
        check_attributes(&self.promote_resource_attributes, "promoted")
            .map_err(|reason| format!("invalid 'promote_resource_attributes': {reason}"))
    }
}

/// Each named once, and by something.
fn check_attributes(attributes: &[String], adjective: &str) -> Result<(), String> {
    let mut seen = std::collections::HashSet::new();
    for attribute in attributes {
        let name = attribute.trim();
        if name.is_empty() {
            return Err(format!("empty {adjective} OTel resource attribute"));
        }
        if !seen.insert(name) {
            return Err(format!("duplicated {adjective} OTel resource attribute {name:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<TranslationStrategy, &str>) {
        let parsed = serde_saphyr::from_str::<Otlp>(text).map_err(|error| error.to_string());
        let checked = parsed.and_then(|otlp| otlp.validate().map(|()| otlp.translation_strategy));
        match (checked, expected) {
            (Ok(strategy), Ok(expected)) => assert_eq!(strategy, expected, "{text}"),
            (Err(error), Err(part)) => assert!(error.contains(part), "{error} does not say {part:?}"),
            (got, expected) => panic!("{text}: {got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn what_prometheus_takes_is_taken() {
        check("{}", Ok(TranslationStrategy::UnderscoreEscapingWithSuffixes));
        check("translation_strategy: NoTranslation", Ok(TranslationStrategy::NoTranslation));
        check("promote_resource_attributes: [a, b]", Ok(TranslationStrategy::default()));
        check("translation_strategy: Sideways", Err("Sideways"));
        check("promote_resource_attributes: [a, ' a']", Err("duplicated promoted OTel resource attribute"));
        check("ignore_resource_attributes: [a]", Err("unless 'promote_all_resource_attributes' is true"));
        check(
            "{promote_all_resource_attributes: true, promote_resource_attributes: [a]}",
            Err("cannot be configured simultaneously"),
        );
    }
}
