//! Templates of `line_format` and `label_format`: text with `{{.label}}`, `{{__line__}}` and `{{__timestamp__}}`.

use std::fmt::Write as _;

use super::row::Row;

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Literal(String),
    Label(String),
    Line,
    Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template {
    parts: Vec<Part>,
}

impl Template {
    pub fn parse(text: &str) -> Result<Template, String> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some(open) = rest.find("{{") {
            parts.push(Part::Literal(rest[..open].to_owned()));
            let inner = &rest[open + 2..];
            let close = inner.find("}}").ok_or("unclosed action in template")?;
            let action = inner[..close].trim_start_matches('-').trim_end_matches('-').trim();
            parts.push(match action {
                "__line__" => Part::Line,
                "__timestamp__" => Part::Timestamp,
                _ => match action.strip_prefix('.').filter(|name| model::is_label_name(name)) {
                    Some(name) => Part::Label(name.to_owned()),
                    None => {
                        let message = "only {{.label}}, {{__line__}} and {{__timestamp__}} are supported";
                        return Err(format!("unsupported template action {{{{{action}}}}}: {message}"));
                    }
                },
            });
            rest = &inner[close + 2..];
        }
        parts.push(Part::Literal(rest.to_owned()));
        parts.retain(|part| *part != Part::Literal(String::new()));
        Ok(Template { parts })
    }

    pub fn render(&self, row: &Row<'_>) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Label(name) => out.push_str(row.get(name)),
                Part::Line => out.push_str(&row.line),
                Part::Timestamp => {
                    let instant = chrono::DateTime::from_timestamp_nanos(row.t_ns);
                    // Writing to a string cannot fail.
                    let _ = write!(out, "{}", instant.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true));
                }
            }
        }
        out
    }
}
