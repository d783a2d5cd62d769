//! The pieces that an integration's settings are made of: addresses, secrets, and rules between fields.

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;
use serde::{Deserialize, Deserializer};
use service::http_config::read_secret;

use super::NotifyError;

/// An address as a field of the configuration, checked while it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl(pub Url);

impl HttpUrl {
    /// One that is part of this program.
    pub fn known(text: &str) -> HttpUrl {
        HttpUrl(parse_url(text).expect("a good address"))
    }

    /// This address with more path after it, whether or not it ends in a slash.
    pub fn join(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}/{path}", self.0.path().trim_end_matches('/')));
        url
    }
}

impl<'de> Deserialize<'de> for HttpUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_url(&text).map(HttpUrl).map_err(serde::de::Error::custom)
    }
}

pub fn parse_url(text: &str) -> Result<Url, String> {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
        return Err(format!("unsupported scheme {scheme:?} for URL"));
    }
    match Url::parse(text) {
        Ok(url) if url.has_host() => Ok(url),
        Ok(_) => Err("missing host for URL".to_owned()),
        Err(error) if error.to_string() == "empty host" => Err("missing host for URL".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A secret: written in the configuration, or read from a file each time, so that it may be changed without a reload.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    Value(String),
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl Secret {
    /// Of the fields `name` and `name_file`, at most one of which may be set.
    pub fn pick(name: &str, value: &str, file: &Option<PathBuf>) -> Result<Option<Secret>, String> {
        let file = file.as_ref().filter(|path| !path.as_os_str().is_empty());
        match (value.is_empty(), file) {
            (false, Some(_)) => Err(format!("at most one of {name} & {name}_file must be configured")),
            (false, None) => Ok(Some(Secret::Value(value.to_owned()))),
            (true, Some(path)) => Ok(Some(Secret::File(path.clone()))),
            (true, None) => Ok(None),
        }
    }

    /// As [`Secret::pick`], where one of them must be there.
    pub fn require(name: &str, value: &str, file: &Option<PathBuf>) -> Result<Secret, String> {
        Secret::pick(name, value, file)?.ok_or_else(|| format!("one of {name} or {name}_file must be configured"))
    }

    /// An address that is a secret, such as a webhook's.
    pub fn pick_url(name: &str, value: &Option<HttpUrl>, file: &Option<PathBuf>) -> Result<Option<Secret>, String> {
        Secret::pick(name, value.as_ref().map_or("", |url| url.0.as_str()), file)
    }

    pub fn require_url(name: &str, value: &Option<HttpUrl>, file: &Option<PathBuf>) -> Result<Secret, String> {
        Secret::require(name, value.as_ref().map_or("", |url| url.0.as_str()), file)
    }

    pub fn read(&self) -> Result<String, NotifyError> {
        match self {
            Secret::Value(text) => Ok(text.clone()),
            Secret::File(path) => Ok(read_secret(path)?),
        }
    }

    pub fn read_url(&self) -> Result<Url, NotifyError> {
        parse_url(&self.read()?).map_err(NotifyError::for_good)
    }
}

/// The first text that says something.
pub fn or(own: String, global: &str) -> String {
    if own.is_empty() { global.to_owned() } else { own }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let parsed = parse_url(text).map(|url| url.to_string());
        assert_eq!(parsed.as_deref().map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn addresses_are_web_addresses() {
        check("http://x", Ok("http://x/"));
        check("https://x:8443/a?b=c", Ok("https://x:8443/a?b=c"));
        check("x", Err("unsupported scheme \"\" for URL"));
        check("ftp://x", Err("unsupported scheme \"ftp\" for URL"));
        check("http://", Err("missing host for URL"));
        let joined = |text: &str| HttpUrl::known(text).join("v2/alerts").to_string();
        assert_eq!(joined("http://x"), "http://x/v2/alerts");
        assert_eq!(joined("http://x/y/"), "http://x/y/v2/alerts");
    }

    #[test]
    fn a_secret_is_a_value_or_a_file() {
        let file = Some(PathBuf::from("/nowhere"));
        assert_eq!(Secret::pick("k", "v", &None), Ok(Some(Secret::Value("v".to_owned()))));
        assert_eq!(Secret::pick("k", "", &Some(PathBuf::new())), Ok(None));
        assert_eq!(Secret::pick("k", "v", &file), Err("at most one of k & k_file must be configured".to_owned()));
        assert_eq!(Secret::require("k", "", &None), Err("one of k or k_file must be configured".to_owned()));
        let unread = Secret::require("k", "", &file).expect("a file").read().expect_err("not there");
        assert!(unread.retry && unread.message.starts_with("/nowhere: "), "{unread}");
        assert_eq!(format!("{:?}", Secret::Value("v".to_owned())), "<secret>");
    }
}
