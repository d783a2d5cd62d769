//! The texts that a regular expression requires: what an index can be asked for it.

use regex::bytes::Regex;
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::{AnyOf, WordTest};

/// Alternatives that are worth asking for.
const MAX_TEXTS: usize = 16;

/// What every text that matches holds, if something is known. Matches may hold it in other places, too.
pub fn required(pattern: &str) -> Option<AnyOf> {
    regex_syntax::parse(pattern).ok().and_then(|hir| of(&hir))
}

/// An expression as a question about words, if it is one ([`about_words`]).
pub fn word_test(pattern: &str) -> Option<WordTest> {
    let (hir, min_bytes) = about_words(pattern)?;
    let regex = Regex::new(pattern).ok()?;
    Some(WordTest { regex, holds: of(&hir), min_bytes })
}

/// An expression and the bytes of its shortest match, if its matches are never empty and made of nothing but what words are
/// made of, and what is around them does not matter.
pub fn about_words(pattern: &str) -> Option<(Hir, usize)> {
    let hir = regex_syntax::parse(pattern).ok()?;
    let min_bytes = hir.properties().minimum_len().filter(|min| *min > 0)?;
    (hir.properties().look_set().is_empty() && is_of_words(&hir)).then_some((hir, min_bytes))
}

/// Whether all that it matches is made of ASCII letters, digits and bytes past ASCII.
fn is_of_words(hir: &Hir) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || !byte.is_ascii();
    // Of a range of characters the ASCII ones.
    let are_words = |start: u32, end: u32| (start..=end.min(0x7f)).all(|c| is_word(c as u8));
    match hir.kind() {
        HirKind::Empty => true,
        HirKind::Look(_) => false,
        HirKind::Literal(literal) => literal.0.iter().all(|byte| is_word(*byte)),
        HirKind::Class(class) => ranges(class).into_iter().all(|(start, end)| are_words(start.into(), end.into())),
        HirKind::Repetition(repetition) => is_of_words(&repetition.sub),
        HirKind::Capture(capture) => is_of_words(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().all(is_of_words),
    }
}

/// What a text holds that has one of these, if something is known of each.
pub fn either(all: impl Iterator<Item = Option<AnyOf>>) -> Option<AnyOf> {
    let mut union = AnyOf { texts: Vec::new(), ignore_case: false };
    for one in all {
        let AnyOf { texts, ignore_case } = one?;
        union.texts.extend(texts);
        union.ignore_case |= ignore_case;
    }
    let is_useful = (1..=MAX_TEXTS).contains(&union.texts.len()) && union.texts.iter().all(|text| !text.is_empty());
    is_useful.then_some(union)
}

fn of(hir: &Hir) -> Option<AnyOf> {
    match hir.kind() {
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok().map(AnyOf::one),
        HirKind::Capture(capture) => of(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => of(&repetition.sub),
        HirKind::Alternation(all) => either(all.iter().map(of)),
        HirKind::Concat(parts) => {
            let mut best = None;
            let mut run = Run::default();
            for part in parts {
                match (part.kind(), letter(part)) {
                    (HirKind::Literal(literal), _) => match std::str::from_utf8(&literal.0) {
                        Ok(text) => run.text.push_str(text),
                        Err(_) => keep(&mut best, run.take()),
                    },
                    (_, Some(letter)) => run.push(letter),
                    _ => {
                        keep(&mut best, run.take());
                        keep(&mut best, of(part));
                    }
                }
            }
            keep(&mut best, run.take());
            best
        }
        _ => letter(hir).map(|letter| AnyOf { texts: vec![letter.to_string()], ignore_case: true }),
    }
}

/// Literals and letters of either case in a row.
#[derive(Default)]
struct Run {
    text: String,
    ignore_case: bool,
}

impl Run {
    fn push(&mut self, letter: char) {
        self.text.push(letter);
        self.ignore_case = true;
    }

    fn take(&mut self) -> Option<AnyOf> {
        let Run { text, ignore_case } = std::mem::take(self);
        (!text.is_empty()).then(|| AnyOf { texts: vec![text], ignore_case })
    }
}

/// The ASCII letter whose two cases are all that an expression matches. `k` and `s` have a third in Unicode, which no search
/// for ASCII letters finds.
fn letter(hir: &Hir) -> Option<char> {
    let HirKind::Class(class) = hir.kind() else { return None };
    match ranges(class)[..] {
        [(upper, same), (lower, end)] if upper == same && lower == end && upper.to_ascii_lowercase() == lower => {
            Some(lower)
        }
        _ => None,
    }
}

fn ranges(class: &Class) -> Vec<(char, char)> {
    match class {
        Class::Unicode(class) => class.iter().map(|range| (range.start(), range.end())).collect(),
        Class::Bytes(class) => class.iter().map(|range| (range.start().into(), range.end().into())).collect(),
    }
}

/// Longer texts lead to fewer places.
fn keep(best: &mut Option<AnyOf>, found: Option<AnyOf>) {
    let shortest = |any: &AnyOf| any.texts.iter().map(String::len).min().unwrap_or(0);
    if let Some(found) = found
        && best.as_ref().is_none_or(|best| shortest(best) < shortest(&found))
    {
        *best = Some(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, texts: &[&str], ignore_case: bool) {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let expected = (!texts.is_empty()).then_some(AnyOf { texts, ignore_case });
        assert_eq!(required(pattern), expected, "{pattern}");
    }

    #[test]
    fn literals_of_expressions() {
        check("timeout", &["timeout"], false);
        check("a (b|cd) e+f", &["a "], false);
        check("error: (time|out)", &["error: "], false);
        check("(time|out)[0-9]+", &["time", "out"], false);
        check("(time|out)?x{2}[a-c]*", &["x"], false);
        check("(?i)connection (refused|closed)", &["connection "], true);
        check("(?i)desk", &["de"], true);
        check("x(?i:y)z", &["xyz"], true);
        check("[0-9]{3}ms", &["ms"], false);
        check("(a|)b?", &[], false);
        check(".*", &[], false);
        check("(a|b.|.c|[de])", &[], false);
        check("é+ü", &["é"], false);
    }

    #[test]
    fn expressions_about_words() {
        let check = |pattern: &str, expected: Option<usize>| {
            assert_eq!(word_test(pattern).map(|test| test.min_bytes), expected, "{pattern}");
        };
        check("[0-9]{3}ms", Some(5));
        check("(?i)error|fail", Some(4));
        check("5\\d\\d", Some(3));
        check("é+(x|yz)?", Some(2));
        for other in ["", "a*", "a b", "a.b", "\\w", "^a", "\\ba", "[^a]", "a|_", "x-?y", "(?m)a$"] {
            check(other, None);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_line_matches_if_a_word_does(
            pattern in "([ab1é]|[a-c0-9é]|\\d|[ab]|(a|1b)){1,4}[+]?", line in "[ab1é ._-]{0,12}",
        ) {
            let test = word_test(&pattern).expect("it is about words");
            let is_word = |c: char| c.is_ascii_alphanumeric() || !c.is_ascii();
            let mut words = line.split(|c| !is_word(c)).filter(|word| word.len() >= test.min_bytes);
            let by_words = words.any(|word| test.regex.is_match(word.as_bytes()) && test.holds.as_ref().is_none_or(|any| any.is_in(word)));
            proptest::prop_assert_eq!(by_words, test.regex.is_match(line.as_bytes()));
        }

        #[test]
        fn what_matches_holds_it(pattern in "(\\(\\?i\\))?[abkS]{1,3}(\\([ab]{1,2}\\|[bK]{1,2}\\))?[ab.]?[*+?]?[ab]{0,2}", text in "[abkKsSAB]{0,8}") {
            let regex = regex::Regex::new(&pattern).expect("it is good");
            if let Some(any) = required(&pattern).filter(|_| regex.is_match(&text)) {
                let fold = |text: &str| if any.ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
                proptest::prop_assert!(any.texts.iter().any(|one| fold(&text).contains(&fold(one))), "{any:?}");
            }
        }
    }
}
