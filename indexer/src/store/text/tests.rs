use proptest::prelude::*;
use query::{AnyOf, WordTest};

use super::split::Packed;
use super::*;

fn packed(lines: &[&str]) -> (Texts, Values) {
    let Packed { structure, digits, others } = pack(lines.iter().copied(), |_| {});
    let (texts, values) = (Texts::read(structure).expect("it was written"), Values { digits, others });
    texts.check(&values).expect("they belong together");
    (texts, values)
}

/// Lines must come back, and needles must be found where they are.
fn check(lines: &[&str], needles: &[&str]) {
    let (texts, values) = packed(lines);
    for (i, line) in lines.iter().enumerate() {
        let mut out = Vec::new();
        texts.line(i, &values, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), *line);
        assert_eq!(texts.line_bytes(i), line.len());
    }
    assert_eq!(texts.len(), lines.len());
    for needle in needles {
        for ignore_case in [false, true] {
            let mut found = Vec::new();
            let sought = Needle::new(needle, ignore_case);
            let looked = texts.find::<Malformed>(&sought, || Ok(&values), &mut |line| found.push(line));
            looked.expect("the values are there");
            found.sort_unstable();
            let fold = |text: &str| if ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
            let holds = |(_, line): &(u32, &&str)| fold(line).contains(&fold(needle));
            let expected: Vec<u32> = (0u32..).zip(lines).filter(holds).map(|(i, _)| i).collect();
            assert_eq!(found, expected, "{needle:?} {ignore_case}");
        }
    }
}

/// Lines must be found by their words as they are by an expression.
fn check_words(lines: &[&str], pattern: &str, holds: Option<&str>) {
    let (texts, values) = packed(lines);
    let regex = regex::bytes::Regex::new(pattern).expect("it is good");
    let test = WordTest { regex: regex.clone(), holds: holds.map(AnyOf::one), min_bytes: 1 };
    let mut found = Vec::new();
    let looked = texts.find::<Malformed>(&Needle::of_word(&test), || Ok(&values), &mut |line| found.push(line));
    looked.expect("the values are there");
    found.sort_unstable();
    let matching = (0u32..).zip(lines).filter(|(_, line)| regex.is_match(line.as_bytes()));
    assert_eq!(found, matching.map(|(i, _)| i).collect::<Vec<_>>(), "{pattern}");
}

#[test]
fn words_are_found_in_columns_of_every_kind() {
    let line =
        |i: u32| format!("GET /a/{} took {}ms id=x{:04}y n={i:03} at z{}", i % 3, i * 37, i * 7919 % 9973, i % 2);
    let lines: Vec<String> = (0..400).map(line).chain(["odd 12ms".to_owned(), "-".to_owned()]).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    for (pattern, holds) in [
        ("[0-9]{3}ms", Some("ms")),
        ("G[A-Z]T", None),
        ("(?i)get", None),
        ("z[1]", Some("z")),
        ("x0[0-4]+y", None),
        ("37[0-9]", None),
        ("3[0-9]3", None),
        ("[02]{3}", None),
        ("q+", Some("q")),
        ("q+|z0", None),
    ] {
        check_words(&lines, pattern, holds);
    }
}

#[test]
fn lines_of_one_kind_are_columns() {
    let lines: Vec<String> =
        (0..40).map(|i| format!("GET /a/{} took {}ms id=x{:04}y (ok)", i % 3, i * 37, i * 7919 % 9973)).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let needles =
        ["", "GET", "ET", "get /", "/1 took", "a/2 took 7", "7ms", "ms id=x00", "x0", "0y (o", ")", "(", "  ", "37"];
    check(&lines, &needles);
    let (texts, values) = packed(&lines);
    assert_eq!((texts.groups.len(), texts.verbatim.len()), (1, 0));
    assert!(values.digits.is_empty() && values.others.len() < 40 * 12, "{values:?}");
}

#[test]
fn odd_lines_are_verbatim() {
    check(&["", "-", "one two", "é ü", "one, two", "\u{1}\u{7f}"], &["one", "two", "é", ", t", "\u{7f}"]);
    let wide = "a ".repeat(MAX_COLUMNS + 1);
    check(&[&wide, &wide, &wide, &wide, &wide], &["a a", "b"]);
}

proptest! {
    #[test]
    fn any_lines_come_back(lines in prop::collection::vec("[aB1é ,:]{0,9}", 0..60), needles in prop::collection::vec("[aBb1é ,:]{0,4}", 4)) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let needles: Vec<&str> = needles.iter().map(String::as_str).collect();
        check(&lines, &needles);
    }

    #[test]
    fn alike_lines_come_back(words in prop::collection::vec(("[a-c]{1,2}|[0-9]{1,3}|q", "[a-z0-9]{1,6}"), 1..80), needle in "[a-c0-9 =]{1,4}") {
        let lines: Vec<String> = words.iter().map(|(a, b)| format!("w={a} {b}=1")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        check(&lines, &[&needle, "w=a", "q ", "=1", "1"]);
        for pattern in ["[a-c][0-9]", "[0-9]{2}", "q|[0-9]b", "[^ =]{5}", "w|1"] {
            check_words(&lines, pattern, None);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(prop_oneof![0u8..8, any::<u8>()], 0..80)) {
        if let Ok(texts) = Texts::read(bytes) {
            let values = Values { digits: vec![b'1'; texts.digits_bytes], others: vec![b'x'; texts.others_bytes] };
            let needle = Needle::new("x 1", false);
            let mut last = None;
            texts.find::<Malformed>(&needle, || Ok(&values), &mut |line| last = Some(line)).expect("they are there");
            for line in 0..texts.len().min(50) {
                let mut out = Vec::new();
                texts.line(line, &values, &mut out);
                prop_assert_eq!(out.len(), texts.line_bytes(line));
            }
        }
    }
}
