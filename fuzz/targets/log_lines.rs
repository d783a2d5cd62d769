//! Bytes of log files, in every format, joined by every rule, read as they come and as time ends them.

#![no_main]

use std::sync::LazyLock;

use agent::logs::encoding::Encoding;
use agent::logs::filter::Filter;
use agent::logs::lines::{Context, Rules, frame};
use agent::logs::multiline::Joining;
use agent::logs::parse::Format;
use agent::logs::parse::content::Content;
use service::config::LogSource;

const NOW_NS: i64 = 1_795_156_000_000_000_000;

static RULES: LazyLock<Vec<Rules>> = LazyLock::new(|| {
    let sources = [
        "{}",
        "{multiline: auto, fields: ['*'], transforms: [{redact: {presets: [email, ip, credit_card, password]}}]}",
        "{multiline: {start: '^a'}, format: regex, pattern: '(?<t>\\S+) (?<level>\\w+)', timestamp: {field: t, format: '%b %d %H:%M:%S'}}",
        "{multiline: klog, format: logfmt, fields: ['*'], timestamp: {field: t, zone: Europe/Paris}}",
    ];
    let rules = |text: &&str| {
        let source: LogSource = service::config::parse(std::path::Path::new("x"), text).expect("a good source");
        Rules {
            multiline: source.multiline.as_ref().map(Joining::new),
            content: Content::of(&source).expect("good"),
            filter: Filter::new(&source.transforms),
        }
    };
    sources.iter().map(rules).collect()
});

libfuzzer_sys::fuzz_target!(|input: (u8, u8, &[u8])| {
    let (rule, at, bytes) = input;
    let rules = &RULES[usize::from(rule) % RULES.len()];
    let lines: Vec<&[u8]> = bytes.split(|c| *c == b'\n').filter(|line| !line.is_empty()).collect();
    let detected = Format::detect(&lines, NOW_NS);
    let encoding = Encoding::of(bytes);
    for format in [Format::Cri, Format::Docker, detected] {
        let (prefix, rest) = bytes.split_at(usize::from(at).min(bytes.len()));
        for (prefix, input, ends_at) in [(&[][..], bytes, None), (prefix, rest, Some(rest.len()))] {
            let context = Context { encoding, prefix, ends_at, ..Context::new(rules, format, NOW_NS) };
            let framed = frame(input, &context);
            assert!(framed.resume <= framed.consumed && framed.consumed <= input.len());
            assert!(ends_at.is_none() || !framed.is_holding || framed.read < input.len());
        }
    }
});
