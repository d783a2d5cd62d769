//! How scripts write lines: `{labels} "text" @ 10s [repeat every 10s for 6] [metadata k="v"] [parsed k="v"]`.

use model::{Label, Labels, MatchOp};

use crate::literal::{quoted_len, unquote};
use crate::logql::parse_matchers;

/// Lines that one line of a script stands for.
const MAX_REPEATS: usize = 1_000_000;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct WrittenLine {
    pub labels: Labels,
    pub text: String,
    /// From the script's epoch.
    pub t_ns: i64,
    pub metadata: Labels,
    pub parsed: Labels,
    pub every_ns: i64,
    pub count: usize,
}

/// A line of a script without its comment; quotes hide the `#`.
pub(super) fn without_comment(line: &str) -> &str {
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '"' | '`') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, '#') => return &line[..at],
            _ => {}
        }
    }
    line
}

/// A time or length: a duration as Go writes it, or 0.
pub(super) fn time_ns(text: &str) -> Result<i64, String> {
    template::convert::duration_ns(text)
}

/// A label set at the start of a text, and what follows it. Empty values count.
pub(super) fn label_set(text: &str) -> Result<(Labels, &str), String> {
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        match c {
            '}' => break,
            '"' | '`' => at += quoted_len(&text[at..])?,
            c => at += c.len_utf8(),
        }
    }
    let end = (at + 1).min(text.len());
    let matchers = parse_matchers(&text[..end]).map_err(|error| format!("not a label set: {error}"))?;
    if let Some(matcher) = matchers.iter().find(|matcher| matcher.op != MatchOp::Equal) {
        return Err(format!("label {} has no single value", matcher.name));
    }
    let pairs = matchers.into_iter().map(|matcher| (matcher.name, matcher.value));
    Ok((labels(pairs.collect()), text[end..].trim_start()))
}

fn labels(mut pairs: Vec<(String, String)>) -> Labels {
    pairs.sort();
    pairs.dedup_by(|a, b| a.0 == b.0);
    Labels::with_empty_values(pairs.into_iter().map(|(name, value)| Label { name: name.into(), value: value.into() }))
}

/// The inside of a quoted text, as it is: nothing is escaped.
fn raw(text: &str) -> Result<(&str, &str), String> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '`')).ok_or("expected a quoted line")?;
    let end = text[1..].find(quote).ok_or("unterminated quoted line")?;
    Ok((&text[1..end + 1], text[end + 2..].trim_start()))
}

/// `[name …]` where it comes next.
fn clause<'a>(rest: &mut &'a str, name: &str) -> Result<Option<&'a str>, String> {
    let Some(inside) = rest.strip_prefix('[').and_then(|inside| inside.strip_prefix(name)) else { return Ok(None) };
    let mut at = 0;
    while let Some(c) = inside[at..].chars().next() {
        match c {
            ']' => {
                *rest = inside[at + 1..].trim_start();
                return Ok(Some(inside[..at].trim()));
            }
            '"' => at += quoted_len(&inside[at..])?,
            c => at += c.len_utf8(),
        }
    }
    Err(format!("unterminated [{name}"))
}

/// `a="1" b="2"`.
fn pairs(mut text: &str) -> Result<Labels, String> {
    let mut found = Vec::new();
    while !text.is_empty() {
        let (name, rest) = match text.starts_with('"') {
            true => {
                let len = quoted_len(text)?;
                (unquote(&text[..len])?, text[len..].strip_prefix('=').ok_or("expected = behind a name")?)
            }
            false => {
                let (name, rest) = text.split_once('=').ok_or("expected name=\"value\"")?;
                (name.trim().to_owned(), rest)
            }
        };
        let len = quoted_len(rest)?;
        found.push((name, unquote(&rest[..len])?));
        text = rest[len..].trim_start();
    }
    Ok(labels(found))
}

pub(super) fn line(text: &str) -> Result<WrittenLine, String> {
    let (labels, rest) = label_set(text)?;
    let (text, rest) = raw(rest)?;
    let rest = rest.strip_prefix('@').ok_or("expected @ and a time")?.trim_start();
    let end = rest.find([' ', '\t', '[']).unwrap_or(rest.len());
    let t_ns = time_ns(&rest[..end])?;
    let mut rest = rest[end..].trim();
    let (mut every_ns, mut count) = (0, 1);
    if let Some(repeat) = clause(&mut rest, "repeat every ")? {
        let (every, times) = repeat.split_once(" for ").ok_or("expected [repeat every STEP for COUNT]")?;
        every_ns = time_ns(every.trim())?;
        count = times.trim().parse().ok().filter(|count| *count <= MAX_REPEATS).ok_or("not a count")?;
    }
    let metadata = clause(&mut rest, "metadata")?.map_or(Ok(Labels::default()), pairs)?;
    let parsed = clause(&mut rest, "parsed")?.map_or(Ok(Labels::default()), pairs)?;
    if !rest.is_empty() {
        return Err(format!("unexpected {rest:?}"));
    }
    Ok(WrittenLine { labels, text: text.to_owned(), t_ns, metadata, parsed, every_ns, count })
}
