//! Docker's json-file driver: `{"log":"message\n","stream":"stdout","time":"…"}`; without the newline it is a part.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Parsed, Stream};

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

pub fn parse(line: &[u8]) -> Option<Parsed<'_>> {
    if line.first() != Some(&b'{') {
        return None;
    }
    let envelope: Envelope<'_> = serde_json::from_slice(line).ok()?;
    let is_partial = !envelope.log.ends_with('\n');
    let text = match envelope.log {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(mut text) => {
            text.truncate(text.trim_end_matches(['\r', '\n']).len());
            Cow::Owned(text.into_bytes())
        }
    };
    let stream = Stream::from_name(envelope.stream.as_bytes())?;
    let t_ns = Some(super::instant::parse(envelope.time.as_bytes())?);
    Some(Parsed { text, t_ns, stream, is_partial, level: None })
}
