use proptest::prelude::*;

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
    let mut total_bytes = 0;
    for (i, line) in lines.iter().enumerate() {
        let mut out = Vec::new();
        texts.line(i, &values, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), *line);
        assert_eq!(texts.line_bytes(i), line.len());
        total_bytes += line.len();
    }
    assert_eq!((texts.len(), texts.text_bytes), (lines.len(), total_bytes));
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
