//! Grouping labels in a path: `/metrics/job/<job>{/<label>/<value>}`, each value as it is or, under `<label>@base64`, in
//! base64.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use model::{Labels, LabelsBuilder, is_label_name};
use service::http::percent_decode;

const BASE64_SUFFIX: &str = "@base64";
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A path is in all samples of its group.
const MAX_PATH_BYTES: usize = 4096;

/// The labels that a path names. Slashes in values are only possible in base64.
pub fn grouping(path: &str) -> Result<Labels, String> {
    if path.len() > MAX_PATH_BYTES {
        return Err(format!("a path of more than {MAX_PATH_BYTES} bytes"));
    }
    let path = path.strip_prefix("/metrics/").unwrap_or(path);
    let parts: Vec<String> = path.split('/').map(decoded).collect();
    if !parts.len().is_multiple_of(2) {
        return Err(format!("odd number of components in label string {path:?}"));
    }
    let mut labels = LabelsBuilder::default();
    for (i, pair) in parts.chunks(2).enumerate() {
        let [name, value] = pair else { continue };
        let (name, value) = match name.strip_suffix(BASE64_SUFFIX) {
            Some(name) => (
                name,
                from_base64(value)
                    .map_err(|reason| format!("invalid base64 encoding in label value {value:?}: {reason}"))?,
            ),
            None => (name.as_str(), value.clone()),
        };
        if i == 0 && value.is_empty() {
            return Err("job name is required".to_owned());
        }
        if !is_label_name(name) || name.starts_with("__") || (i > 0 && name == "job") {
            return Err(format!("improper label name {name:?}"));
        }
        labels.set(name, value);
    }
    Ok(labels.build())
}

/// In a path a plus is a plus.
fn decoded(part: &str) -> String {
    percent_decode(&part.replace('+', "%2B"))
}

/// `=` alone is the empty value, which a path cannot hold.
fn from_base64(text: &str) -> Result<String, String> {
    let bytes = if text == "=" { Vec::new() } else { BASE64.decode(text).map_err(|error| error.to_string())? };
    String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(path: &str, expected: Result<&str, &str>) {
        match (grouping(path), expected) {
            (Ok(labels), Ok(expected)) => assert_eq!(labels.to_string(), expected),
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (got, expected) => panic!("{path}: {got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn paths_name_groups() {
        check("/metrics/job/a", Ok(r#"{job="a"}"#));
        check("/metrics/job/a%20b+c/instance/i%2F1", Ok(r#"{instance="i/1", job="a b+c"}"#));
        check("/metrics/job@base64/L3Zhci90bXA/path@base64/L3Zhci90bXA=", Ok(r#"{job="/var/tmp", path="/var/tmp"}"#));
        check("/metrics/job/a/empty@base64/=", Ok(r#"{job="a"}"#));
        check("/metrics/job/", Err("job name is required"));
        check("/metrics/job@base64/=", Err("job name is required"));
        check("/metrics/job/a/b", Err("odd number"));
        check("/metrics/job/a/job/b", Err("improper label name"));
        check("/metrics/job/a/__x/b", Err("improper label name"));
        check(&format!("/metrics/job/{}", "a".repeat(5000)), Err("more than 4096 bytes"));
        check("/metrics/job@base64/!!", Err("invalid base64"));
    }

    proptest! {
        #[test]
        fn any_path_never_panics(path in "(/metrics/job)?(@base64)?[/a-z%=@_0-9]{0,40}|.{0,40}") {
            if let Ok(labels) = grouping(&path) {
                prop_assert!(labels.iter().all(|label| is_label_name(&label.name)));
            }
        }
    }
}
