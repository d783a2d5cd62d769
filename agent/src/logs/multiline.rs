//! Which lines are one event: traces of the languages people write services in, klog, or whatever a pattern begins.
//!
//! A rule is a small machine: [`Joining::begin`] says what a line that begins an event is, [`Joining::join`] whether the next
//! one belongs to it. What cannot go on is [`State::Whole`] and is shipped at once, so that rules for traces delay no
//! ordinary line; a pattern must wait for the next line, or for the timeout.

use std::time::Duration;

use memchr::memmem;
use regex::bytes::Regex;
use service::config::{Multiline, MultilineRule, Traces};

#[derive(Debug, Clone)]
pub struct Joining {
    rule: Rule,
    /// An event that nothing was added to for this long is over.
    pub timeout: Duration,
}

#[derive(Debug, Clone)]
enum Rule {
    Start(Regex),
    Klog,
    Traces(Traces),
}

/// What an event is so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing belongs to it.
    Whole,
    /// All is of it up to the next start.
    Open,
    /// Frames of Java or JavaScript.
    Frames,
    Python(Python),
    Go,
    Ruby,
    /// The message of a panic is in the next line.
    RustHead,
    RustBody,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Python {
    Frames,
    /// The exception was named: only another one that it led to may follow.
    Named,
}

impl Joining {
    pub fn new(multiline: &Multiline) -> Joining {
        let rule = match &multiline.rule {
            MultilineRule::Start(regex) => Rule::Start(regex.clone()),
            MultilineRule::Traces(Traces::Klog) => Rule::Klog,
            MultilineRule::Traces(traces) => Rule::Traces(*traces),
        };
        let timeout_ms = u64::try_from(multiline.timeout.0).unwrap_or(0).clamp(1, 600_000);
        Joining { rule, timeout: Duration::from_millis(timeout_ms) }
    }

    /// The state of an event that this line begins.
    pub fn begin(&self, line: &[u8]) -> State {
        match &self.rule {
            Rule::Start(_) | Rule::Klog => State::Open,
            Rule::Traces(traces) => begin_trace(*traces, line),
        }
    }

    /// The state with this line added; `None` where the line is not of the event.
    pub fn join(&self, state: State, line: &[u8]) -> Option<State> {
        let begins = match &self.rule {
            Rule::Start(regex) => regex.is_match(line),
            Rule::Klog => is_klog(line),
            Rule::Traces(_) => return join_trace(state, line),
        };
        (!begins).then_some(State::Open)
    }
}

/// `Lmmdd `, as klog begins every message.
pub fn is_klog(line: &[u8]) -> bool {
    matches!(line, [b'I' | b'W' | b'E' | b'F', digits @ .., ] if digits.len() > 5
        && digits[..4].iter().all(u8::is_ascii_digit) && digits[4] == b' ')
}

fn begin_trace(traces: Traces, line: &[u8]) -> State {
    let is = |language: Traces| traces == language || traces == Traces::Auto;
    if (is(Traces::Java) || is(Traces::Javascript)) && is_exception(line) {
        return State::Frames;
    }
    if is(Traces::Python) && line.starts_with(b"Traceback (most recent call last)") {
        return State::Python(Python::Frames);
    }
    if is(Traces::Go) && is_go_panic(line) {
        return State::Go;
    }
    if is(Traces::Ruby) && is_ruby_error(line) {
        return State::Ruby;
    }
    if is(Traces::Rust) && line.starts_with(b"thread '") && memmem::find(line, b"panicked at").is_some() {
        return if line.ends_with(b":") { State::RustHead } else { State::RustBody };
    }
    State::Whole
}

fn join_trace(state: State, line: &[u8]) -> Option<State> {
    let rest = line.trim_ascii_start();
    let is_indented = rest.len() < line.len() && !rest.is_empty();
    let is = |beginnings: &[&[u8]]| beginnings.iter().any(|beginning| rest.starts_with(beginning));
    let goes_on = match state {
        State::Whole | State::Open => false,
        State::Frames => {
            (is_indented && (is(&[b"at ", b"... ", b"- locked", b"--- "]))) || is(&[b"Caused by: ", b"Suppressed: "])
        }
        State::Python(Python::Frames) if is_indented => true,
        // The first line that is not indented names the exception.
        State::Python(Python::Frames) => return (!rest.is_empty()).then_some(State::Python(Python::Named)),
        State::Python(Python::Named) if is(&[b"Traceback (most recent call last)"]) => {
            return Some(State::Python(Python::Frames));
        }
        State::Python(Python::Named) => {
            rest.is_empty() || is(&[b"During handling of the above exception", b"The above exception was the direct"])
        }
        State::Go => is_indented || rest.is_empty() || is_go_frame(rest),
        State::Ruby => is_indented && is(&[b"from ", b"\xe2\x86\xb3", b"|", b"^"]),
        State::RustHead => return Some(State::RustBody),
        State::RustBody => is_indented || is(&[b"note: ", b"stack backtrace:"]),
    };
    goes_on.then_some(state)
}

/// `java.lang.Exception: …`, `Exception in thread "main" …`, `TypeError: …`: a class that is an exception by its name.
fn is_exception(line: &[u8]) -> bool {
    let line = line.strip_prefix(b"Uncaught ").unwrap_or(line);
    if line.starts_with(b"Exception in thread ") {
        return true;
    }
    let name = &line[..memchr::memchr2(b' ', b':', line).unwrap_or(line.len())];
    let is_named = [&b"Exception"[..], b"Error", b"Throwable"].iter().any(|end| name.ends_with(end));
    let is_end = line.get(name.len()).is_none_or(|next| *next == b':');
    is_named && is_end && name.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'$' | b'/'))
}

fn is_go_panic(line: &[u8]) -> bool {
    let begins = [&b"panic: "[..], b"fatal error: ", b"goroutine "].iter().any(|start| line.starts_with(start));
    begins && (!line.starts_with(b"goroutine ") || line.ends_with(b"]:"))
        || memmem::find(line, b"http: panic serving ").is_some()
}

/// `main.f(0x1)`, `goroutine 1 [running]:`, `created by …` and what else stands at the margin of a Go trace.
fn is_go_frame(rest: &[u8]) -> bool {
    let known: [&[u8]; 6] = [b"goroutine ", b"created by ", b"panic: ", b"[signal ", b"exit status ", b"[originating "];
    known.iter().any(|start| rest.starts_with(start))
        || rest.starts_with(b"...")
        || (rest.ends_with(b")") && memchr::memchr(b'(', rest).is_some_and(|at| is_go_function(&rest[..at])))
}

fn is_go_function(name: &[u8]) -> bool {
    memchr::memchr(b'.', name).is_some() && !name.contains(&b' ')
}

/// `app.rb:3:in 'method': message (Class)`.
fn is_ruby_error(line: &[u8]) -> bool {
    let Some(at) = memmem::find(line, b":in ") else { return false };
    let place = &line[..at];
    let Some(colon) = memchr::memrchr(b':', place) else { return false };
    place[..colon].ends_with(b".rb") && place[colon + 1..].iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joining(config: &str) -> Joining {
        Joining::new(&serde_json::from_str::<Multiline>(config).expect("a good rule"))
    }

    /// Lines of an event are separated by `\n`, events by being items.
    fn check(config: &str, expected: &[&str]) {
        let joining = joining(config);
        let mut events: Vec<String> = Vec::new();
        let mut state = None;
        for line in expected.iter().flat_map(|event| event.split('\n')) {
            state = match state.and_then(|state| joining.join(state, line.as_bytes())) {
                Some(next) => {
                    let event = events.last_mut().expect("one was begun");
                    event.push('\n');
                    event.push_str(line);
                    Some(next)
                }
                None => {
                    events.push(line.to_owned());
                    Some(joining.begin(line.as_bytes()))
                }
            };
        }
        assert_eq!(events, expected, "{config}");
    }

    #[test]
    fn traces_of_every_language_are_one_event() {
        let java =
            "java.lang.IllegalStateException: no\n\tat a.B.c(B.java:1)\n\t... 3 more\nCaused by: x.YError\n\tat z";
        let main = "Exception in thread \"main\" java.lang.Error\n\tat a.B.c(B.java:1)";
        let python = "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\n    f()\nKeyError: 'x'\n\n\
                      During handling of the above exception, another exception occurred:\n\n\
                      Traceback (most recent call last):\n  File \"a.py\", line 3\nValueError: y";
        let go = "panic: boom\n\ngoroutine 1 [running]:\nmain.f(...)\n\t/a/main.go:3\nmain.main()\n\t/a/main.go:9 +0x1d\n\
                  exit status 2";
        let ruby = "a.rb:3:in 'f': bad (RuntimeError)\n\tfrom a.rb:7:in '<main>'";
        let js = "TypeError: x is not a function\n    at f (/a.js:1:2)\n    at node:internal/main:1:1";
        let rust = "thread 'main' panicked at src/main.rs:2:5:\nboom\nstack backtrace:\n   0: f\n             at ./a.rs:1\n\
                    note: run with `RUST_BACKTRACE=1`";
        for (language, event) in [
            ("java", java),
            ("java", main),
            ("python", python),
            ("go", go),
            ("ruby", ruby),
            ("javascript", js),
            ("rust", rust),
        ] {
            check(&format!("{:?}", language), &["before", event, "after: an ordinary line"]);
            check("\"auto\"", &["before", event, "after: an ordinary line"]);
        }
        check("\"java\"", &["an Error: happened", "  at the door", "Error handling is on"]);
    }

    #[test]
    fn starts_are_told_by_klog_or_a_pattern() {
        check("\"klog\"", &["I1120 06:25:00.1 1 a.go:1] x\nmore\n  of it", "E1120 06:25:00.1 1 a.go:1] y"]);
        check(r#"{"start": "^\\d{4}-"}"#, &["2026-11-20 a\nb\n\nc", "2026-11-20 d"]);
        check(r#"{"language": "go", "timeout": "5s"}"#, &["one", "two"]);
    }
}
