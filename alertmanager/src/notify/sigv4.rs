//! AWS requests: Signature Version 4, with the settings' keys or those that are found ([`super::aws_keys`]), or a role's that
//! is assumed with them.

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, RequestBuilder, Url};
use ring::{digest, hmac};
use serde::Deserialize;

use super::NotifyError;
use super::aws_keys::{Keys, Search, role_keys};
use super::http::{Answer, Http};
use super::setting::HttpUrl;

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// `sigv4` in the configuration.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sigv4Config {
    pub region: String,
    access_key: String,
    secret_key: String,
    profile: String,
    role_arn: String,
    external_id: String,
    use_fips_sts_endpoint: bool,
    service_name: String,
}

impl Sigv4Config {
    pub fn check(&self) -> Result<(), String> {
        if self.access_key.is_empty() != self.secret_key.is_empty() {
            return Err(
                "must provide a AWS SigV4 Access key and Secret Key if credentials are specified in the SigV4 \
                        config"
                    .to_owned(),
            );
        }
        if !self.external_id.is_empty() && self.role_arn.is_empty() {
            return Err("external_id can only be used with role_arn".to_owned());
        }
        Ok(())
    }

    pub fn region(&self) -> Result<String, NotifyError> {
        let from = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let own = Some(self.region.clone()).filter(|region| !region.is_empty());
        own.or_else(|| from("AWS_REGION")).or_else(|| from("AWS_DEFAULT_REGION")).ok_or_else(|| {
            NotifyError::for_good("region not configured in sns.sigv4.region or in default credentials chain")
        })
    }

    /// The name to sign for, if it is not the service's own.
    pub fn service<'a>(&'a self, own: &'a str) -> &'a str {
        if self.service_name.is_empty() { own } else { &self.service_name }
    }

    /// The keys to sign with; `sts` is where a role is assumed, if not at AWS itself.
    pub async fn keys(&self, http: &Http, sts: Option<&HttpUrl>) -> Result<Keys, NotifyError> {
        let own = match self.access_key.is_empty() {
            false => Keys {
                access_key: self.access_key.clone(),
                secret_key: self.secret_key.clone(),
                session_token: String::new(),
            },
            true => self.found_keys(self.sts(sts)?).await?,
        };
        if self.role_arn.is_empty() { Ok(own) } else { self.assume(http, own, self.sts(sts)?).await }
    }

    async fn found_keys(&self, sts: Url) -> Result<Keys, NotifyError> {
        let env = |name: &str| std::env::var(name).unwrap_or_default();
        Search { profile: &self.profile, sts, env: &env }.find().await
    }

    /// Where roles are assumed.
    fn sts(&self, fixed: Option<&HttpUrl>) -> Result<Url, NotifyError> {
        if let Some(url) = fixed {
            return Ok(url.0.clone());
        }
        let host = if self.use_fips_sts_endpoint { "sts-fips" } else { "sts" };
        Url::parse(&format!("https://{host}.{}.amazonaws.com/", self.region()?)).map_err(NotifyError::for_good)
    }

    async fn assume(&self, http: &Http, own: Keys, url: Url) -> Result<Keys, NotifyError> {
        let region = self.region()?;
        let mut form = vec![
            ("Action".to_owned(), "AssumeRole".to_owned()),
            ("Version".to_owned(), "2011-06-15".to_owned()),
            ("RoleArn".to_owned(), self.role_arn.clone()),
            ("RoleSessionName".to_owned(), format!("binnacle-{}", model::now_ms())),
        ];
        if !self.external_id.is_empty() {
            form.push(("ExternalId".to_owned(), self.external_id.clone()));
        }
        let answer = post(http, url, &form, &Signer { keys: own, region, service: "sts".to_owned() }).await?;
        role_keys(&String::from_utf8_lossy(&answer.body))
    }
}

/// The text of an XML element without attributes.
pub fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let start = text.find(&format!("<{name}>"))? + name.len() + 2;
    let end = text[start..].find(&format!("</{name}>"))?;
    Some(text[start..start + end].trim())
}

/// Sends a signed form; an answer that is none of success is explained by its `Message`.
pub async fn post(http: &Http, url: Url, form: &[(String, String)], signer: &Signer) -> Result<Answer, NotifyError> {
    let body = serialize(form);
    let mut headers = vec![("content-type".to_owned(), FORM.to_owned())];
    headers.extend(signer.sign("POST", &url, &headers, body.as_bytes(), model::now_ms()));
    let request = http.request(Method::POST, url)?.body(body).header(CONTENT_TYPE, HeaderValue::from_static(FORM));
    let signed = headers.into_iter().skip(1).fold(request, |request: RequestBuilder, (name, value)| {
        if name == "authorization" { super::http::with_secret(request, &value) } else { request.header(name, value) }
    });
    let answer = http.send(signed).await?;
    let text = answer.said();
    let said = element(&text, "Message").unwrap_or(&text).to_owned();
    answer.check_saying(&[], &said)
}

fn serialize(form: &[(String, String)]) -> String {
    let pairs = form.iter().map(|(name, value)| format!("{}={}", escape(name, false), escape(value, false)));
    pairs.collect::<Vec<_>>().join("&")
}

/// Percent-encoding as the signature wants it: all but unreserved characters.
fn escape(text: &str, keep_slash: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            b'/' if keep_slash => escaped.push('/'),
            other => escaped += &format!("%{other:02X}"),
        }
    }
    escaped
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

pub struct Signer {
    pub keys: Keys,
    pub region: String,
    pub service: String,
}

impl Signer {
    /// The headers to add to a request that has these; all of them, and the host, are signed.
    pub fn sign(
        &self,
        method: &str,
        url: &Url,
        headers: &[(String, String)],
        body: &[u8],
        now_ms: i64,
    ) -> Vec<(String, String)> {
        let now = chrono::DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
        let (date, time) = (now.format("%Y%m%d").to_string(), now.format("%Y%m%dT%H%M%SZ").to_string());
        let mut added = vec![("x-amz-date".to_owned(), time.clone())];
        if !self.keys.session_token.is_empty() {
            added.push(("x-amz-security-token".to_owned(), self.keys.session_token.clone()));
        }
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = format!("{}{port}", url.host_str().unwrap_or(""));
        let mut signed: Vec<(String, String)> = headers.iter().chain(&added).cloned().collect();
        signed.push(("host".to_owned(), host));
        signed.sort();
        let names = signed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
        let lines: String = signed.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let mut query: Vec<String> = url
            .query_pairs()
            .map(|(name, value)| format!("{}={}", escape(&name, false), escape(&value, false)))
            .collect();
        query.sort();
        let request =
            format!("{method}\n{}\n{}\n{lines}\n{names}\n{}", escape(url.path(), true), query.join("&"), hash(body));
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hash(request.as_bytes()));
        let first = format!("AWS4{}", self.keys.secret_key).into_bytes();
        let key = [&date, &self.region, &self.service, "aws4_request"].into_iter().fold(first, |key, part| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec()
        });
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), text.as_bytes());
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
            self.keys.access_key,
            hex(signature.as_ref())
        );
        added.push(("authorization".to_owned(), value));
        added
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of AWS' own description of the signature.
    #[test]
    fn the_signature_is_the_documented_one() {
        let keys = Keys {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: String::new(),
        };
        let signer = Signer { keys, region: "us-east-1".to_owned(), service: "iam".to_owned() };
        let url = Url::parse("https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08").expect("a URL");
        let headers = [("content-type".to_owned(), FORM.to_owned())];
        let added = signer.sign("GET", &url, &headers, b"", 1_440_938_160_000);
        let expected = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
                        SignedHeaders=content-type;host;x-amz-date, \
                        Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        assert_eq!(added[0], ("x-amz-date".to_owned(), "20150830T123600Z".to_owned()));
        assert_eq!(added[1], ("authorization".to_owned(), expected.to_owned()));
    }
}
