//! Regular expressions whose faults read as Go words them.

use regex::Regex;

pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| fault(pattern, &error.to_string()))
}

/// What Go says of a pattern that our own library refuses with `reason`.
pub(super) fn fault(pattern: &str, reason: &str) -> String {
    let last = reason.lines().last().unwrap_or("").trim_start_matches("error: ");
    let from = |marks: &[char]| pattern.rfind(marks).map_or(pattern, |at| &pattern[at..]);
    let reason = if last.contains("unclosed group") {
        format!("missing closing ): `{pattern}`")
    } else if last.contains("unopened group") {
        format!("unexpected ): `{pattern}`")
    } else if last.contains("unclosed character class") {
        format!("missing closing ]: `{}`", from(&['[']))
    } else if last.contains("repetition operator missing") {
        let operator = pattern.find(['*', '+', '?']).map_or(pattern, |at| &pattern[at..=at]);
        format!("missing argument to repetition operator: `{operator}`")
    } else if last.contains("unrecognized escape") || last.contains("backreferences") {
        let escape: String = from(&['\\']).chars().take(2).collect();
        format!("invalid escape sequence: `{escape}`")
    } else if last.contains("look-around") {
        let group: String = pattern.find("(?").map_or(pattern, |at| &pattern[at..]).chars().take(3).collect();
        format!("invalid or unsupported Perl syntax: `{group}`")
    } else {
        last.to_owned()
    };
    format!("error parsing regexp: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_read_as_gos() {
        let check = |pattern: &str, expected: &str| {
            assert_eq!(compile(pattern).map(|_| ()), Err(format!("error parsing regexp: {expected}")), "{pattern}");
        };
        check("(", "missing closing ): `(`");
        check("a)", "unexpected ): `a)`");
        check("x[a", "missing closing ]: `[a`");
        check("*a", "missing argument to repetition operator: `*`");
        check(r"a\q", r"invalid escape sequence: `\q`");
        check("(?=a)", "invalid or unsupported Perl syntax: `(?=`");
    }
}
