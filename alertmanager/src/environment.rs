//! Values from the environment: wherever the configuration's value is `${NAME}` as a whole, quoted or not.
//!
//! Only whole values: a `$` within a text is a template's or a pattern's own. A variable that is not set is an error, for a
//! secret that is empty by accident is found out at night.

use std::sync::LazyLock;

use regex::{Captures, Regex};

static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r#"(?P<before>^|[:,\[{-])(?P<space>\s*)["']?\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}["']?(?P<after>\s*(?:$|[,\]}]|\s#.*$))"#;
    Regex::new(pattern).expect("a good pattern")
});

/// The text with its references filled in; what it replaces stays on its line.
pub fn fill_in(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if !line.contains("${") || line.trim_start().starts_with('#') {
            filled += line;
            continue;
        }
        let (content, end) = line.strip_suffix('\n').map_or((line, ""), |content| (content, "\n"));
        let mut missing = None;
        let replaced = REFERENCE.replace_all(content, |found: &Captures| {
            let value = variable(&found["name"]).unwrap_or_else(|| {
                missing.get_or_insert_with(|| found["name"].to_owned());
                String::new()
            });
            // JSON's strings are YAML's.
            format!("{}{}{}{}", &found["before"], &found["space"], serde_json::Value::from(value), &found["after"])
        });
        filled += &replaced;
        filled += end;
        if let Some(name) = missing {
            return Err(format!("line {}: the environment has no variable {name}", number + 1));
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let filled = fill_in(text, |name| match name {
            "A" => Some("a\"#: b".to_owned()),
            "B" => Some("b".to_owned()),
            _ => None,
        });
        assert_eq!(filled.as_deref().map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn whole_values_are_filled_in() {
        check("a: ${B}\n", Ok("a: \"b\"\n"));
        check("a: '${A}'  # why\nb: 1\n", Ok("a: \"a\\\"#: b\"  # why\nb: 1\n"));
        check("x: {a: \"${B}\", b: ${B}}", Ok("x: {a: \"b\", b: \"b\"}"));
        check("x: [${B}]\n- ${B}", Ok("x: [\"b\"]\n- \"b\""));
        check("# a: ${C}\na: b", Ok("# a: ${C}\na: b"));
        check("a: 'x ${B}'", Ok("a: 'x ${B}'"));
        check("a: '{{ reReplaceAll \"(.*)\" \"${1}\" .x }}'", Ok("a: '{{ reReplaceAll \"(.*)\" \"${1}\" .x }}'"));
        check("a: b\nc: ${C}", Err("line 2: the environment has no variable C"));
    }
}
