//! Values that templates see, and the functions they call.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use model::Labels;

use crate::number::format_float;

/// Something with members that are computed: a time, a set of alerts.
pub trait Object: Send + Sync + fmt::Debug {
    /// A field, or a method with its arguments; `None` when there is no such member.
    fn member(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>>;

    /// How it prints.
    fn print(&self) -> String;

    /// What `range`, `len` and `index` see: keys and values in order.
    fn entries(&self) -> Option<Vec<(Value, Value)>> {
        None
    }
}

#[derive(Debug, Clone)]
pub enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
    /// Text that HTML mode must not escape.
    Safe(String),
    List(Arc<Vec<Value>>),
    Map(Arc<BTreeMap<String, Value>>),
    Object(Arc<dyn Object>),
}

impl Value {
    pub fn list(items: impl IntoIterator<Item = Value>) -> Value {
        Value::List(Arc::new(items.into_iter().collect()))
    }

    pub fn map<K: Into<String>>(items: impl IntoIterator<Item = (K, Value)>) -> Value {
        Value::Map(Arc::new(items.into_iter().map(|(key, value)| (key.into(), value)).collect()))
    }

    pub fn object(object: impl Object + 'static) -> Value {
        Value::Object(Arc::new(object))
    }

    /// Go's truth: not the zero value, not empty.
    pub fn is_true(&self) -> bool {
        match self {
            Value::Nil => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::String(text) | Value::Safe(text) => !text.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Map(items) => !items.is_empty(),
            Value::Object(object) => object.entries().is_none_or(|entries| !entries.is_empty()),
        }
    }

    /// How `{{ . }}` and `%v` print it.
    pub fn print(&self) -> String {
        match self {
            Value::Nil => "<nil>".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => format_float(*value),
            Value::String(text) | Value::Safe(text) => text.clone(),
            Value::List(items) => {
                let printed: Vec<String> = items.iter().map(Value::print).collect();
                format!("[{}]", printed.join(" "))
            }
            Value::Map(items) => {
                let printed: Vec<String> =
                    items.iter().map(|(key, value)| format!("{key}:{}", value.print())).collect();
                format!("map[{}]", printed.join(" "))
            }
            Value::Object(object) => object.print(),
        }
    }

    /// The text of a string, or why it is none.
    pub fn text(&self) -> Result<&str, String> {
        match self {
            Value::String(text) | Value::Safe(text) => Ok(text),
            other => Err(format!("wrong type for value; expected string; got {}", other.kind())),
        }
    }

    /// A number, also from a string that holds one (Prometheus' functions take both).
    pub fn number(&self) -> Result<f64, String> {
        match self {
            Value::Int(value) => Ok(*value as f64),
            Value::Float(value) => Ok(*value),
            Value::String(text) | Value::Safe(text) => {
                text.parse().map_err(|_| format!("can't convert {text:?} to float"))
            }
            other => Err(format!("can't convert {} to float", other.kind())),
        }
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Value::Nil => "nil",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::String(_) | Value::Safe(_) => "string",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Object(_) => "object",
        }
    }

    /// Keys and values in order, for `range`; `None` for what has none.
    pub fn entries(&self) -> Option<Vec<(Value, Value)>> {
        match self {
            Value::List(items) => {
                Some(items.iter().enumerate().map(|(i, v)| (Value::Int(i as i64), v.clone())).collect())
            }
            Value::Map(items) => Some(items.iter().map(|(k, v)| (Value::String(k.clone()), v.clone())).collect()),
            Value::Object(object) => object.entries(),
            Value::Nil => Some(Vec::new()),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::String(text)
    }
}

impl From<&Labels> for Value {
    fn from(labels: &Labels) -> Value {
        Value::object(Kv(labels.clone()))
    }
}

/// Labels or annotations, with the methods of Alertmanager's `KV`.
#[derive(Debug, Clone)]
pub struct Kv(pub Labels);

impl Kv {
    /// By name, `alertname` first.
    fn sorted(&self) -> Vec<(&str, &str)> {
        let mut pairs: Vec<(&str, &str)> = self.0.iter().map(|label| (&*label.name, &*label.value)).collect();
        pairs.sort_by_key(|(name, _)| (*name != "alertname", *name));
        pairs
    }

    fn remove(&self, arguments: &[Value]) -> Result<Value, String> {
        let names = arguments.first().and_then(Value::entries).ok_or("Remove needs a list of names")?;
        let names: Vec<String> = names.iter().map(|(_, name)| name.print()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Ok(Value::from(&self.0.without(&names)))
    }
}

impl Object for Kv {
    fn member(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        // A label of this name comes second: Go finds methods before map keys.
        match name {
            "SortedPairs" => {
                let pairs = self.sorted().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
                Some(Ok(Value::object(Pairs(pairs.collect()))))
            }
            "Names" => Some(Ok(Value::list(self.sorted().into_iter().map(|(name, _)| name.into())))),
            "Values" => Some(Ok(Value::list(self.sorted().into_iter().map(|(_, value)| value.into())))),
            "Remove" => Some(self.remove(arguments)),
            _ => Some(Ok(self.0.get(name).unwrap_or("").into())),
        }
    }

    fn print(&self) -> String {
        let printed: Vec<String> = self.0.iter().map(|label| format!("{}:{}", label.name, label.value)).collect();
        format!("map[{}]", printed.join(" "))
    }

    fn entries(&self) -> Option<Vec<(Value, Value)>> {
        Some(self.0.iter().map(|label| ((&*label.name).into(), (&*label.value).into())).collect())
    }
}

/// Alertmanager's `Pairs`: names and values in order.
#[derive(Debug, Clone)]
struct Pairs(Vec<(String, String)>);

impl Object for Pairs {
    fn member(&self, name: &str, _: &[Value]) -> Option<Result<Value, String>> {
        match name {
            "Names" => Some(Ok(Value::list(self.0.iter().map(|(name, _)| name.as_str().into())))),
            "Values" => Some(Ok(Value::list(self.0.iter().map(|(_, value)| value.as_str().into())))),
            _ => None,
        }
    }

    fn print(&self) -> String {
        let printed: Vec<String> = self.0.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        printed.join(", ")
    }

    fn entries(&self) -> Option<Vec<(Value, Value)>> {
        let pair = |(name, value): &(String, String)| {
            Value::map([("Name", name.as_str().into()), ("Value", value.as_str().into())])
        };
        Some(self.0.iter().enumerate().map(|(i, both)| (Value::Int(i as i64), pair(both))).collect())
    }
}

type Function = Arc<dyn Fn(&[Value]) -> Result<Value, String> + Send + Sync>;

/// Functions by name, beside the built-in ones.
#[derive(Clone, Default)]
pub struct Functions(HashMap<&'static str, Function>);

impl Functions {
    pub fn add(
        &mut self,
        name: &'static str,
        function: impl Fn(&[Value]) -> Result<Value, String> + Send + Sync + 'static,
    ) -> &mut Functions {
        self.0.insert(name, Arc::new(function));
        self
    }

    /// A function of one text.
    pub fn add_text(
        &mut self,
        name: &'static str,
        function: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> &mut Functions {
        self.add(name, move |arguments| Ok(function(argument(arguments, 0)?.text()?).into()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Function> {
        self.0.get(name)
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The i-th argument, or what Go says when it is missing.
pub(crate) fn argument(arguments: &[Value], i: usize) -> Result<&Value, String> {
    arguments.get(i).ok_or_else(|| format!("wrong number of args: want at least {}, got {}", i + 1, arguments.len()))
}
