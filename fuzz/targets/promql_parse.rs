//! PromQL of any bytes: an expression or an error, and every span lies within the text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use query::{QueryError, Span, selectors};

fn check(span: Span, text: &str) {
    assert!(span.start <= span.end && text.get(span.start..span.end).is_some(), "{span:?} of {text:?}");
    let before = &text[..span.start];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let place = (before.matches('\n').count() + 1, span.start - line_start + 1);
    assert_eq!((span.line, span.column), place, "{span:?} of {text:?}");
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    match query::parse(&text) {
        Ok(expr) => {
            expr.walk(&mut |node| check(node.span, &text));
            selectors(&expr).iter().for_each(|selector| check(selector.span, &text));
        }
        // What only an evaluation refuses elsewhere has no place.
        Err(QueryError::Execution(message)) => assert!(message.starts_with("invalid destination label name")),
        Err(error @ QueryError::Parse { .. }) => assert!(!error.pointed(&text).is_empty()),
        Err(error) => panic!("{error} is not about parsing"),
    }
});
