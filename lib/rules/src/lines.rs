//! The lines behind an alert of a LogQL rule, as its labels and annotations see them: `{{ range lines }}{{ .Line }}{{ end }}`.

use model::Labels;
use template::{Functions, TimeValue, Value};

/// Lines that `lines` gives where no number is asked for.
const DEFAULT_LINES: usize = 10;
const MAX_LINES: usize = 100;
/// A longer line is cut.
const MAX_LINE_BYTES: usize = 1 << 10;
/// All lines of one call; those beyond are left out.
const MAX_ALL_BYTES: usize = 16 << 10;

/// A line that a rule's expression counted, as it left the pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    pub t_ns: i64,
    pub labels: Labels,
    pub text: String,
}

/// Adds `lines` (at most [`DEFAULT_LINES`]) and `lines N`. `newest` answers at most so many lines, the newest first.
pub fn add(functions: &mut Functions, newest: impl Fn(usize) -> Result<Vec<LogLine>, String> + Send + Sync + 'static) {
    functions.add("lines", move |arguments| {
        let wanted = match arguments {
            [] => DEFAULT_LINES,
            [Value::Int(count)] => usize::try_from(*count).unwrap_or(0).min(MAX_LINES),
            [other] => return Err(format!("expected a number of lines; got {}", other.kind())),
            more => return Err(format!("wrong number of args: want at most 1, got {}", more.len())),
        };
        Ok(Value::list(bounded(newest(wanted)?).into_iter().map(shown)))
    });
}

/// As many lines as fit, each cut to its limit.
fn bounded(lines: Vec<LogLine>) -> Vec<LogLine> {
    let mut left = MAX_ALL_BYTES;
    let mut kept = Vec::new();
    for mut line in lines {
        if line.text.len() > MAX_LINE_BYTES {
            line.text.truncate(line.text.floor_char_boundary(MAX_LINE_BYTES));
            line.text.push('…');
        }
        if line.text.len() > left {
            break;
        }
        left -= line.text.len();
        kept.push(line);
    }
    kept
}

fn shown(line: LogLine) -> Value {
    Value::map([
        ("Line", Value::from(line.text)),
        ("Labels", Value::from(&line.labels)),
        ("Timestamp", Value::object(TimeValue::from_ns(line.t_ns))),
    ])
}

#[cfg(test)]
mod tests {
    use template::{Mode, Templates};

    use super::*;

    /// What a template makes of lines of these lengths.
    fn check(text: &str, lengths: &[usize], expected: &str) {
        let line = |(i, bytes): (usize, &usize)| LogLine {
            t_ns: i as i64,
            labels: Labels::from_pairs([("app", "web")]),
            text: "ü".repeat(bytes / 2),
        };
        let lines: Vec<LogLine> = lengths.iter().enumerate().map(line).collect();
        let mut functions = Functions::default();
        add(&mut functions, move |wanted| Ok(lines.iter().take(wanted).cloned().collect()));
        let got = Templates::new().expand(text, &Value::Nil, &functions, Mode::Text);
        let got = got.unwrap_or_else(|error| error.message);
        assert!(got.contains(expected), "{text}: {got} does not hold {expected}");
    }

    #[test]
    fn lines_are_bounded_in_number_and_bytes() {
        check("{{ len lines }}", &[2; 200], "10");
        check("{{ len (lines 50) }}", &[2; 200], "50");
        check("{{ len (lines 5000) }}", &[2; 200], "100");
        check("{{ len (lines 0) }}", &[2; 200], "0");
        check("{{ range lines }}{{ len .Line }} {{ end }}", &[1_023, 1_025, 5_000], "1022 1024 1027 ");
        check("{{ len (lines 100) }}", &[1_000; 100], "16");
        check("{{ range lines }}{{ .Labels.app }} {{ .Timestamp.Unix }}{{ end }}", &[2], "web 0");
        check("{{ lines \"x\" }}", &[2], "expected a number of lines; got string");
    }
}
