//! Patterns: literals and captures, `<ip> - - [<_>] "<method> <path> <_>"`.

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Literal(String),
    /// `None` for `<_>`.
    Capture(Option<String>),
}

/// A pattern that extracts named captures, or one that lines are tested with.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pattern {
    parts: Vec<Part>,
}

/// The length of a capture (`<name>`) at the start of a text.
fn capture_len(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('<')?;
    let end = inner.find('>')?;
    model::is_label_name(&inner[..end]).then_some(end + 2)
}

impl Pattern {
    fn parse(text: &str) -> Result<Pattern, String> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        let mut before: Option<&str> = None;
        while let Some(c) = rest.chars().next() {
            if let Some(len) = capture_len(rest) {
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                let (written, name) = (&rest[..len], &rest[1..len - 1]);
                if let (Some(before), Some(Part::Capture(_))) = (before, parts.last()) {
                    return Err(format!("found consecutive capture '{before}{written}': invalid expression"));
                }
                before = Some(written);
                parts.push(Part::Capture((name != "_").then(|| name.to_owned())));
                rest = &rest[len..];
            } else {
                literal.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Pattern { parts })
    }

    /// The longest text that every line that matches holds.
    pub fn longest_literal(&self) -> Option<&str> {
        let literals = self.parts.iter().filter_map(|part| match part {
            Part::Literal(text) => Some(text.as_str()),
            Part::Capture(_) => None,
        });
        literals.max_by_key(|text| text.len())
    }

    /// For `| pattern`: at least one name, each once.
    pub fn extracting(text: &str) -> Result<Pattern, String> {
        let pattern = Pattern::parse(text)?;
        let mut names: Vec<&str> = pattern.names().collect();
        if names.is_empty() {
            return Err("at least one capture is required".to_owned());
        }
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("duplicate capture name ({}): invalid expression", pair[0])),
            None => Ok(pattern),
        }
    }

    /// For `|>` and `!>`: no names.
    pub fn testing(text: &str) -> Result<Pattern, String> {
        let pattern = Pattern::parse(text)?;
        if let Some(name) = pattern.names().next() {
            return Err(format!("named captures are not allowed: found '<{name}>'"));
        }
        Ok(pattern)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Capture(Some(name)) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Hands named captures to `found`. The line must begin with a leading literal; where a later literal is missing,
    /// the capture before it takes the rest.
    pub fn extract<'l>(&self, line: &'l str, mut found: impl FnMut(&str, &'l str)) {
        let (mut rest, mut open): (&str, Option<&Option<String>>) = (line, None);
        let mut close = |open: &mut Option<&Option<String>>, text: &'l str| {
            if let Some(Some(name)) = open.take() {
                found(name, text);
            }
        };
        for (i, part) in self.parts.iter().enumerate() {
            match part {
                Part::Capture(name) => open = Some(name),
                Part::Literal(literal) => match rest.find(literal.as_str()) {
                    Some(at) if i > 0 || at == 0 => {
                        close(&mut open, &rest[..at]);
                        rest = &rest[at + literal.len()..];
                    }
                    _ => break,
                },
            }
        }
        close(&mut open, rest);
    }

    /// Whether a line is of this form, up to its end. Captures hold at least one byte. As in Loki, what stands before a
    /// literal at the very beginning does not matter.
    pub fn matches(&self, line: &str) -> bool {
        if line.is_empty() || self.parts.is_empty() {
            return line.is_empty() && self.parts.is_empty();
        }
        let mut rest = line;
        for (i, part) in self.parts.iter().enumerate() {
            let Part::Literal(literal) = part else { continue };
            match rest.find(literal.as_str()) {
                Some(at) if i == 0 || at > 0 => rest = &rest[at + literal.len()..],
                _ => return false,
            }
        }
        matches!(self.parts.last(), Some(Part::Capture(_))) != rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, line: &str, expected: &[(&str, &str)]) {
        let mut found = Vec::new();
        let pattern = Pattern::extracting(pattern).expect("a good pattern");
        pattern.extract(line, |name, value| found.push((name.to_owned(), value.to_owned())));
        let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn captures() {
        check(
            r#"<ip> - - [<_>] "<method> <_>""#,
            r#"1.2.3.4 - - [now] "GET /x""#,
            &[("ip", "1.2.3.4"), ("method", "GET")],
        );
        check("x<a>y<b>", "x1y2", &[("a", "1"), ("b", "2")]);
        check("x<a>", "yx1", &[]);
        check("<a>;<b>", "no separator", &[("a", "no separator")]);
        for bad in ["<a><b>", "nothing", "<a> <a>"] {
            assert!(Pattern::extracting(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tests_whole_lines() {
        let check = |pattern: &str, line: &str, expected: bool| {
            assert_eq!(Pattern::testing(pattern).expect("good").matches(line), expected, "{pattern} on {line}");
        };
        check("<_> took <_>ms", "GET took 5ms", true);
        check("<_> took <_>ms", "GET took 5ms!", false);
        check("<_> took <_>ms", " took 5ms", false);
        check("GET <_>", "GET ", false);
        check("GET <_>", "a GET b", true);
        check("<_>end<_>", "the end of it", true);
        check("exact", "exact", true);
        check("exact", "exactly", false);
        check("", "", true);
        check("<_>", "", false);
        assert!(Pattern::testing("<a>").is_err());
    }
}
