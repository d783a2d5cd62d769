//! Values as protobuf's JSON mapping writes them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serializer};
use serde_json::Value;

/// A number, or a text that holds one, or nothing.
struct Number<T>(Option<T>);

impl<'de, T: FromNumber> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let read = match &value {
            Value::Null => return Ok(Number(None)),
            Value::Number(number) => T::from_number(number),
            Value::String(text) => T::from_text(text),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        read.map(|read| Number(Some(read))).ok_or_else(|| D::Error::custom(format!("not {}: {value}", T::WHAT)))
    }
}

trait FromNumber: Sized {
    const WHAT: &str;
    fn from_number(number: &serde_json::Number) -> Option<Self>;
    fn from_text(text: &str) -> Option<Self>;
}

impl FromNumber for u64 {
    const WHAT: &str = "an unsigned integer";
    fn from_number(number: &serde_json::Number) -> Option<u64> {
        number.as_u64().or_else(|| whole(number.as_f64()?).and_then(|n| u64::try_from(n).ok()))
    }
    fn from_text(text: &str) -> Option<u64> {
        text.parse().ok()
    }
}

impl FromNumber for i64 {
    const WHAT: &str = "an integer";
    fn from_number(number: &serde_json::Number) -> Option<i64> {
        number.as_i64().or_else(|| whole(number.as_f64()?).and_then(|n| i64::try_from(n).ok()))
    }
    fn from_text(text: &str) -> Option<i64> {
        text.parse().ok()
    }
}

impl FromNumber for f64 {
    const WHAT: &str = "a number";
    fn from_number(number: &serde_json::Number) -> Option<f64> {
        number.as_f64()
    }
    fn from_text(text: &str) -> Option<f64> {
        match text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => text.parse().ok(),
        }
    }
}

/// `1.0` and `1e3` are integers too.
fn whole(number: f64) -> Option<i128> {
    (number.fract() == 0.0 && number.abs() < 1e19).then_some(number as i128)
}

pub fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Number::deserialize(deserializer).map(|number: Number<u64>| number.0.unwrap_or(0))
}

pub fn some_integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Number::deserialize(deserializer).map(|number: Number<i64>| number.0)
}

pub fn integers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    list(deserializer)
}

pub fn float<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Number::deserialize(deserializer).map(|number: Number<f64>| number.0.unwrap_or(0.0))
}

pub fn some_float<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Number::deserialize(deserializer).map(|number: Number<f64>| number.0)
}

pub fn floats<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    list(deserializer)
}

/// A list of numbers, none of them absent.
fn list<'de, T: FromNumber + Default, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Numbers<T>(std::marker::PhantomData<T>);
    impl<'de, T: FromNumber + Default> Visitor<'de> for Numbers<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("a list of numbers")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while let Some(number) = items.next_element::<Number<T>>()? {
                all.push(number.0.unwrap_or_default());
            }
            Ok(all)
        }
        fn visit_unit<E: Error>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }
    }
    deserializer.deserialize_any(Numbers(std::marker::PhantomData))
}

/// The number of an aggregation temporality, or its name.
pub fn temporality<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::Number(number) => number.as_i64().and_then(|number| i32::try_from(number).ok()),
        Value::String(name) => match name.as_str() {
            "AGGREGATION_TEMPORALITY_UNSPECIFIED" => Some(0),
            "AGGREGATION_TEMPORALITY_DELTA" => Some(super::message::DELTA),
            "AGGREGATION_TEMPORALITY_CUMULATIVE" => Some(super::message::CUMULATIVE),
            _ => None,
        },
        Value::Null => Some(0),
        _ => None,
    };
    number.ok_or_else(|| D::Error::custom(format!("not an aggregation temporality: {value}")))
}

pub fn hexadecimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    let digits = text.as_bytes();
    let pair = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(pair).collect();
    bytes.filter(|_| digits.len() % 2 == 0).ok_or_else(|| D::Error::custom("an id is not hexadecimal"))
}

pub fn some_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    STANDARD.decode(text).map(Some).map_err(D::Error::custom)
}

pub fn base64_of(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A whole number is written without a fraction.
pub fn float_value(float: f64) -> Value {
    if !float.is_finite() {
        return Value::from(query::format_number(float));
    }
    if float.fract() == 0.0 && float.abs() < 1e15 {
        return Value::from(float as i64);
    }
    Value::from(float)
}

/// As JavaScript shows a number.
pub fn float_text(float: f64) -> String {
    let size = float.abs();
    if !float.is_finite() {
        return query::format_number(float);
    }
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return float.to_string();
    }
    let text = format!("{float:e}");
    if text.contains("e-") { text } else { text.replace('e', "e+") }
}

/// 64-bit integers are texts.
pub fn as_text<S: Serializer>(number: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}
