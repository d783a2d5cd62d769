//! Templates of `line_format` and `label_format`: Go's, with Loki's functions. The dot holds the labels; `__line__` and
//! `__timestamp__` are functions.

use std::sync::{Arc, LazyLock};

use template::{Functions, Mode, Object, Templates, TimeValue, Value, loki_functions};

use super::row::Fields;

static FUNCTIONS: LazyLock<Functions> = LazyLock::new(loki_functions);

/// What most templates are made of.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    Literal(String),
    Label(String),
    Line,
}

#[derive(Debug, Clone)]
enum Body {
    /// Needs no interpreter.
    Simple(Vec<Part>),
    Full(Arc<Templates>),
}

#[derive(Debug, Clone)]
pub(super) struct Template {
    name: &'static str,
    /// As it was written.
    pub text: String,
    body: Body,
}

impl Template {
    /// `name` is what errors call it.
    pub fn parse(name: &'static str, text: &str) -> Result<Template, String> {
        let body = match simple(text) {
            Some(parts) => Body::Simple(parts),
            None => {
                Templates::check(name, text, &FUNCTIONS, &[]).map_err(|error| error.to_string())?;
                let mut templates = Templates::new();
                templates.parse(name, text).map_err(|error| error.to_string())?;
                Body::Full(Arc::new(templates))
            }
        };
        Ok(Template { name, text: text.to_owned(), body })
    }

    pub fn render(&self, fields: &Fields, line: &str, t_ns: i64) -> Result<String, String> {
        match &self.body {
            Body::Simple(parts) => {
                let mut out = String::new();
                for part in parts {
                    out.push_str(match part {
                        Part::Literal(text) => text,
                        Part::Label(name) => fields.get(name).unwrap_or(""),
                        Part::Line => line,
                    });
                }
                Ok(out)
            }
            Body::Full(templates) => {
                let dot = Value::object(Dot(fields.clone()));
                let locals = [("__line__", line.into()), ("__timestamp__", Value::object(TimeValue::from_ns(t_ns)))];
                let rendered = templates.execute_with(self.name, &dot, &FUNCTIONS, &locals, Mode::Text);
                rendered.map_err(|error| error.to_string())
            }
        }
    }
}

/// The parts of a template that has only `{{.label}}` and `{{__line__}}`.
fn simple(text: &str) -> Option<Vec<Part>> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some(open) = rest.find("{{") {
        parts.push(Part::Literal(rest[..open].to_owned()));
        let inner = &rest[open + 2..];
        let close = inner.find("}}")?;
        // A minus trims what stands around the action.
        let action = inner[..close].trim_matches(' ');
        parts.push(match action.strip_prefix('.') {
            Some(name) if model::is_label_name(name) => Part::Label(name.to_owned()),
            None if action == "__line__" => Part::Line,
            _ => return None,
        });
        rest = &inner[close + 2..];
    }
    parts.push(Part::Literal(rest.to_owned()));
    parts.retain(|part| *part != Part::Literal(String::new()));
    Some(parts)
}

/// The labels as a template sees them.
#[derive(Debug)]
struct Dot(Fields);

impl Object for Dot {
    fn member(&self, name: &str, _: &[Value]) -> Option<Result<Value, String>> {
        Some(Ok(self.0.get(name).unwrap_or("").into()))
    }

    fn print(&self) -> String {
        let pairs = self.0.iter().map(|field| format!("{}:{}", field.label.name, field.label.value));
        format!("map[{}]", pairs.collect::<Vec<_>>().join(" "))
    }

    fn entries(&self) -> Option<Vec<(Value, Value)>> {
        let pair = |field: &super::row::Field| ((&*field.label.name).into(), (&*field.label.value).into());
        Some(self.0.iter().map(pair).collect())
    }
}
