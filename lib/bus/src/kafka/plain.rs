//! Messages on the topic of alerts that are none of our records: what others put there, as plain JSON.
//!
//! Each is handed on as one event, `{"plain": {"place", "key", "value", "at_ms"}}`, whatever it holds: the router judges
//! it, and puts aside what it cannot use ([`crate::Bus::put_aside`]). So a message of somebody else's never stops it. The
//! time is the message's own, so that reading it again gives the same.

use model::{AlertEvents, Batch, DEFAULT_TENANT};
use rdkafka::Message;
use rdkafka::message::BorrowedMessage;
use serde_json::json;

/// More of a message is not looked at: brokers take no larger ones unless told to.
const MAX_VALUE_BYTES: usize = 2 << 20;

pub fn event(message: &BorrowedMessage<'_>) -> Batch {
    let place = format!("{}/{}/{}", message.topic(), message.partition(), message.offset());
    events(&place, message.key(), message.payload(), message.timestamp().to_millis())
}

fn events(place: &str, key: Option<&[u8]>, value: Option<&[u8]>, at_ms: Option<i64>) -> Batch {
    let text = |bytes: Option<&[u8]>| {
        let bytes = bytes.unwrap_or_default();
        String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_VALUE_BYTES)]).into_owned()
    };
    let at_ms = at_ms.filter(|at_ms| *at_ms > 0).unwrap_or_else(model::now_ms);
    let event = json!({"plain": {"place": place, "key": text(key), "value": text(value), "at_ms": at_ms}});
    Batch::Alerts(AlertEvents { tenant: DEFAULT_TENANT.to_owned(), events: vec![event.to_string()] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: Option<&[u8]>, value: Option<&[u8]>, expected: &str) {
        let Batch::Alerts(events) = events("t/1/7", key, value, Some(5)) else { panic!("events") };
        let expected = format!("{{\"plain\":{{\"at_ms\":5,\"key\":{expected},\"place\":\"t/1/7\"}}}}");
        let sorted: serde_json::Value = serde_json::from_str(&events.events[0]).expect("JSON");
        let wanted: serde_json::Value = serde_json::from_str(&expected).expect("JSON");
        assert_eq!(sorted, wanted);
    }

    #[test]
    fn whatever_there_is_becomes_one_event() {
        check(None, Some(b"[]"), r#""","value":"[]""#);
        check(Some(b"k"), None, r#""k","value":"""#);
        check(None, Some(b"\xff\"\n"), r#""","value":"\ufffd\"\n""#);
    }
}
