//! The container runtime interface: `<RFC 3339 nano> stdout|stderr P|F[:tag] message` (Kubernetes, containerd, CRI-O).

use std::borrow::Cow;

use super::{Parsed, Stream};

pub fn parse(line: &[u8]) -> Option<Parsed<'_>> {
    let (time, rest) = cut(line)?;
    let (stream, rest) = cut(rest)?;
    let (tags, text) = cut(rest).unwrap_or((rest, b""));
    let stream = Stream::from_name(stream)?;
    let is_partial = match tags.split(|c| *c == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    if time.len() < 20 || !time[0].is_ascii_digit() {
        return None;
    }
    let t_ns = super::instant::parse(time)?;
    Some(Parsed { text: Cow::Borrowed(text), t_ns: Some(t_ns), stream, is_partial, level: None })
}

fn cut(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b' ', text)?;
    Some((&text[..at], &text[at + 1..]))
}
