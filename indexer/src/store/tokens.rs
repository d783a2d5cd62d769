//! Tokens: what the index knows of a block's text. A token is a run of letters and digits, its case kept.

/// Longer runs are not indexed and not looked for.
const MAX_TOKEN_BYTES: usize = 40;

fn is_part(c: char) -> bool {
    c.is_alphanumeric()
}

/// All tokens of a text; repeats included.
pub fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let runs = text.split(|c: char| !is_part(c));
    runs.filter(|run| !run.is_empty() && run.len() <= MAX_TOKEN_BYTES)
}

/// The tokens that every text with this substring has: those that do not touch its ends, where they may go on.
pub fn inner_tokens(needle: &str) -> impl Iterator<Item = &str> {
    let start = needle.find(|c: char| !is_part(c)).unwrap_or(needle.len());
    let end = needle.rfind(|c: char| !is_part(c)).unwrap_or(start).max(start);
    tokens(&needle[start..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_left_out() {
        let check = |needle: &str, expected: &[&str]| assert_eq!(inner_tokens(needle).collect::<Vec<_>>(), expected);
        check("error", &[]);
        check("status=200 took", &["200"]);
        check(" error ", &["error"]);
        check("a.é.ü", &["é"]);
        check("", &[]);
        check("-", &[]);
    }

    proptest::proptest! {
        #[test]
        fn a_text_has_the_inner_tokens_of_its_substrings(before in "\\PC{0,8}", needle in "\\PC{0,20}", after in "\\PC{0,8}") {
            let text = format!("{before}{needle}{after}");
            let all: Vec<&str> = tokens(&text).collect();
            proptest::prop_assert!(inner_tokens(&needle).all(|token| all.contains(&token)));
        }
    }
}
