//! One entry of the journal, from the JSON that `journalctl -o json` prints
//! (systemd `docs/JOURNAL_EXPORT_FORMATS.md`): a field is text, or an array of bytes where it is not UTF-8, or an array of
//! those where an entry has the field more than once.

use model::MAX_LINE_BYTES;
use serde::Deserialize;

use crate::logs::parse::Level;

/// The fields that [`Entry::parse`] looks at; cursor and time are always printed.
pub const FIELDS: &str = "MESSAGE,PRIORITY,_SYSTEMD_UNIT,_SYSTEMD_USER_UNIT,SYSLOG_IDENTIFIER,_PID";

#[derive(Debug, PartialEq)]
pub struct Entry {
    pub cursor: String,
    pub t_ns: i64,
    pub text: String,
    /// The unit, else the identifier that the writer gave itself; may be empty.
    pub unit: String,
    pub user_unit: String,
    pub pid: Option<u32>,
    pub level: Option<Level>,
    pub is_truncated: bool,
    pub is_invalid_utf8: bool,
}

#[derive(Deserialize)]
struct Fields {
    #[serde(rename = "__CURSOR")]
    cursor: String,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    realtime_us: String,
    #[serde(rename = "MESSAGE")]
    message: Option<Field>,
    #[serde(rename = "PRIORITY")]
    priority: Option<Field>,
    #[serde(rename = "_SYSTEMD_UNIT")]
    unit: Option<Field>,
    #[serde(rename = "_SYSTEMD_USER_UNIT")]
    user_unit: Option<Field>,
    #[serde(rename = "SYSLOG_IDENTIFIER")]
    identifier: Option<Field>,
    #[serde(rename = "_PID")]
    pid: Option<Field>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Field {
    Text(String),
    Bytes(Vec<u8>),
    Several(Vec<Option<Field>>),
}

impl Field {
    /// Values of a field that is there more than once are lines of one text.
    fn into_bytes(self) -> Vec<u8> {
        match self {
            Field::Text(text) => text.into_bytes(),
            Field::Bytes(bytes) => bytes,
            Field::Several(fields) => {
                let parts: Vec<Vec<u8>> = fields.into_iter().flatten().map(Field::into_bytes).collect();
                parts.join(&b'\n')
            }
        }
    }
}

impl Entry {
    pub fn parse(json: &[u8]) -> Result<Entry, String> {
        let fields: Fields = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let realtime_us: i64 = fields.realtime_us.parse().map_err(|_| "not a time in microseconds".to_owned())?;
        let t_ns = realtime_us
            .checked_mul(1000)
            .and_then(|t_ns| t_ns.checked_add(place_in_microsecond(&fields.cursor)))
            .ok_or("a time out of range")?;
        let bytes = |field: Option<Field>| field.map(Field::into_bytes).unwrap_or_default();
        let text = |field| String::from_utf8_lossy(&bytes(field)).into_owned();
        let (message, is_invalid_utf8) = match String::from_utf8(bytes(fields.message)) {
            Ok(message) => (message, false),
            Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned(), true),
        };
        let (message, is_truncated) = cut(message);
        let (unit, identifier) = (text(fields.unit), text(fields.identifier));
        Ok(Entry {
            cursor: fields.cursor,
            t_ns,
            text: message,
            unit: if unit.is_empty() { identifier } else { unit },
            user_unit: text(fields.user_unit),
            pid: text(fields.pid).parse().ok(),
            level: level(&text(fields.priority)),
            is_truncated,
            is_invalid_utf8,
        })
    }
}

/// The journal counts microseconds. The entry's own number (`i=` of its cursor, in hex) gives the digits below, so that two
/// equal messages within a microsecond stay two, and the same entry read twice has the same time.
fn place_in_microsecond(cursor: &str) -> i64 {
    let number = cursor.split(';').find_map(|part| u64::from_str_radix(part.strip_prefix("i=")?, 16).ok());
    number.map_or(0, |number| (number % 1000) as i64)
}

fn cut(mut text: String) -> (String, bool) {
    if text.len() <= MAX_LINE_BYTES {
        return (text, false);
    }
    let end = (0..=MAX_LINE_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
    (text, true)
}

/// Syslog's severities (RFC 5424, 6.2.1).
fn level(priority: &str) -> Option<Level> {
    match priority {
        "0" | "1" | "2" => Some(Level::Fatal),
        "3" => Some(Level::Error),
        "4" => Some(Level::Warn),
        "5" | "6" => Some(Level::Info),
        "7" => Some(Level::Debug),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(fields: &str, expected: Result<(i64, &str, &str, Option<Level>, bool), &str>) {
        let got = Entry::parse(format!("{{{fields}}}").as_bytes());
        match (&got, expected) {
            (Ok(entry), Ok(expected)) => {
                let got = (entry.t_ns, entry.text.as_str(), entry.unit.as_str(), entry.level, entry.is_invalid_utf8);
                assert_eq!(got, expected, "{fields}");
            }
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
            (got, expected) => panic!("{got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn fields_are_text_bytes_or_several() {
        let at = r#""__CURSOR":"s=1;i=3ea;b=2","__REALTIME_TIMESTAMP":"1500""#;
        let with = |rest: &str| format!("{at},{rest}");
        check(
            &with(r#""MESSAGE":"hello","_SYSTEMD_UNIT":"a.service","SYSLOG_IDENTIFIER":"b","PRIORITY":"3""#),
            Ok((1_500_002, "hello", "a.service", Some(Level::Error), false)),
        );
        check(&with(r#""MESSAGE":[104,105],"SYSLOG_IDENTIFIER":"b""#), Ok((1_500_002, "hi", "b", None, false)));
        check(&with(r#""MESSAGE":[104,255]"#), Ok((1_500_002, "h\u{fffd}", "", None, true)));
        check(&with(r#""MESSAGE":["a",[98],null]"#), Ok((1_500_002, "a\nb", "", None, false)));
        check(&with(r#""MESSAGE":null"#), Ok((1_500_002, "", "", None, false)));
        check(r#""__CURSOR":"x","__REALTIME_TIMESTAMP":"7""#, Ok((7000, "", "", None, false)));
        check(r#""__CURSOR":"x","__REALTIME_TIMESTAMP":"now""#, Err("microseconds"));
        check(r#""__CURSOR":"x","__REALTIME_TIMESTAMP":"9223372036854775807""#, Err("out of range"));
        check(r#""MESSAGE":"x""#, Err("__CURSOR"));
    }

    #[test]
    fn an_overlong_message_is_cut_between_characters() {
        let text = "é".repeat(MAX_LINE_BYTES);
        let json = format!(r#"{{"__CURSOR":"x","__REALTIME_TIMESTAMP":"7","MESSAGE":"x{text}"}}"#);
        let entry = Entry::parse(json.as_bytes()).expect("an entry");
        assert!(entry.is_truncated);
        assert_eq!(entry.text.len(), MAX_LINE_BYTES - 1);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), text in "[\\[\\]{}\",:0-9a]{0,60}") {
            let _ = Entry::parse(&bytes);
            let _ = Entry::parse(format!(r#"{{"__CURSOR":"x","__REALTIME_TIMESTAMP":"7","MESSAGE":{text}}}"#).as_bytes());
        }
    }
}
