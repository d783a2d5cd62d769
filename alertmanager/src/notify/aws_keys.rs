//! Where keys for AWS are found, in the order of AWS' own programs: the environment, the shared credentials file, a token of
//! a web identity (pods on EKS), a container's endpoint (ECS, EKS pod identity), the machine's metadata service (version 2).
//!
//! The services are asked without the receiver's `http_config`: they are on this machine, and no proxy leads there.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Url};
use serde::Deserialize;

use super::NotifyError;
use super::sigv4::element;

/// A machine outside AWS has nobody to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const METADATA: &str = "http://169.254.169.254";
const CONTAINERS: &str = "http://169.254.170.2";
const METADATA_TOKEN_SECONDS: &str = "300";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

#[derive(Debug, Clone, PartialEq)]
pub struct Keys {
    pub access_key: String,
    pub secret_key: String,
    pub session_token: String,
}

/// What a search for keys goes by.
pub struct Search<'a> {
    /// Of the shared credentials file; where it is named the environment's keys do not count.
    pub profile: &'a str,
    /// Where a web identity's role is assumed.
    pub sts: Url,
    /// A variable of the environment; empty where it is not set.
    pub env: &'a (dyn Fn(&str) -> String + Send + Sync),
}

/// As container endpoints and the metadata service answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Granted {
    access_key_id: String,
    secret_access_key: String,
    token: String,
}

impl Search<'_> {
    pub async fn find(&self) -> Result<Keys, NotifyError> {
        let env = self.env;
        if self.profile.is_empty()
            && let Some((access_key, secret_key)) =
                non_empty(env("AWS_ACCESS_KEY_ID")).zip(non_empty(env("AWS_SECRET_ACCESS_KEY")))
        {
            return Ok(Keys { access_key, secret_key, session_token: env("AWS_SESSION_TOKEN") });
        }
        if let Some(keys) = self.in_file() {
            return Ok(keys);
        }
        let client = service::http::client().no_proxy().connect_timeout(CONNECT_TIMEOUT).timeout(ANSWER_TIMEOUT);
        let client = client.build().map_err(NotifyError::for_now)?;
        if let Some((file, role)) = non_empty(env("AWS_WEB_IDENTITY_TOKEN_FILE")).zip(non_empty(env("AWS_ROLE_ARN"))) {
            return self.of_web_identity(&client, &PathBuf::from(file), &role).await;
        }
        if let Some(url) = self.container_url() {
            let token = match non_empty(env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")) {
                Some(file) => service::http_config::read_secret(&PathBuf::from(file))?,
                None => env("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
            };
            let request = client.get(url);
            let request = if token.is_empty() { request } else { super::http::with_secret(request, &token) };
            return granted(&ask(request).await?);
        }
        if env("AWS_EC2_METADATA_DISABLED").eq_ignore_ascii_case("true") {
            return Err(NotifyError::for_now(format!(
                "no AWS credentials in the settings, the environment or {}",
                self.file().display()
            )));
        }
        self.of_machine(&client).await.map_err(|error| {
            let message = format!(
                "no AWS credentials in the settings, the environment or {}, nor from the metadata service: {error}",
                self.file().display()
            );
            NotifyError::for_now(message)
        })
    }

    fn file(&self) -> PathBuf {
        match non_empty((self.env)("AWS_SHARED_CREDENTIALS_FILE")) {
            Some(path) => PathBuf::from(path),
            None => PathBuf::from((self.env)("HOME")).join(".aws/credentials"),
        }
    }

    fn in_file(&self) -> Option<Keys> {
        let profile = [self.profile.to_owned(), (self.env)("AWS_PROFILE"), "default".to_owned()];
        let profile = profile.into_iter().find(|name| !name.is_empty())?;
        profile_keys(&std::fs::read_to_string(self.file()).ok()?, &profile)
    }

    async fn of_web_identity(&self, client: &Client, file: &std::path::Path, role: &str) -> Result<Keys, NotifyError> {
        let token = service::http_config::read_secret(file)?;
        let session =
            non_empty((self.env)("AWS_ROLE_SESSION_NAME")).unwrap_or_else(|| format!("binnacle-{}", model::now_ms()));
        let form = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", role),
            ("RoleSessionName", &session),
            ("WebIdentityToken", &token),
        ];
        role_keys(&ask(client.post(self.sts.clone()).form(&form)).await?)
    }

    fn container_url(&self) -> Option<String> {
        let relative = non_empty((self.env)("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"));
        relative
            .map(|path| format!("{CONTAINERS}{path}"))
            .or_else(|| non_empty((self.env)("AWS_CONTAINER_CREDENTIALS_FULL_URI")))
    }

    async fn of_machine(&self, client: &Client) -> Result<Keys, NotifyError> {
        let endpoint =
            non_empty((self.env)("AWS_EC2_METADATA_SERVICE_ENDPOINT")).unwrap_or_else(|| METADATA.to_owned());
        let endpoint = endpoint.trim_end_matches('/');
        let token = client.put(format!("{endpoint}/latest/api/token"));
        let token = ask(token.header("x-aws-ec2-metadata-token-ttl-seconds", METADATA_TOKEN_SECONDS)).await?;
        let get =
            |path: String| ask(client.get(format!("{endpoint}{path}")).header("x-aws-ec2-metadata-token", &token));
        let roles = get(ROLES.to_owned()).await?;
        let role = roles.lines().next().map(str::trim).filter(|role| !role.is_empty());
        let role = role.ok_or_else(|| NotifyError::for_now("this machine has no role"))?;
        granted(&get(format!("{ROLES}{role}")).await?)
    }
}

fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

async fn ask(request: RequestBuilder) -> Result<String, NotifyError> {
    let answer = super::http::Answer::read(request).await?.check(&[])?;
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

fn granted(text: &str) -> Result<Keys, NotifyError> {
    let granted: Granted =
        serde_json::from_str(text).map_err(|_| NotifyError::for_now("the answer holds no AWS keys"))?;
    Ok(Keys { access_key: granted.access_key_id, secret_key: granted.secret_access_key, session_token: granted.token })
}

/// The keys of a role that STS grants.
pub fn role_keys(text: &str) -> Result<Keys, NotifyError> {
    let part = |name: &str| element(text, name).map(str::to_owned);
    let keys = part("AccessKeyId").zip(part("SecretAccessKey")).zip(part("SessionToken"));
    let keys = keys.map(|((access_key, secret_key), session_token)| Keys { access_key, secret_key, session_token });
    keys.ok_or_else(|| NotifyError::for_now("the role's credentials are not in the answer"))
}

/// The keys of one profile in a shared credentials file.
fn profile_keys(text: &str, profile: &str) -> Option<Keys> {
    let mut is_here = false;
    let (mut access_key, mut secret_key, mut session_token) = (None, None, String::new());
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_here = name.trim() == profile;
        }
        let Some((name, value)) = line.split_once('=').filter(|_| is_here) else { continue };
        match name.trim() {
            "aws_access_key_id" => access_key = Some(value.trim().to_owned()),
            "aws_secret_access_key" => secret_key = Some(value.trim().to_owned()),
            "aws_session_token" => session_token = value.trim().to_owned(),
            _ => {}
        }
    }
    Some(Keys { access_key: access_key?, secret_key: secret_key?, session_token })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::tests::{Heard, Reply, Server};

    fn check_profile(profile: &str, expected: Option<(&str, &str, &str)>) {
        let text = "[default]\naws_access_key_id = A\naws_secret_access_key=B\n\n[ other ]\n# c\naws_access_key_id=C\n\
                    aws_secret_access_key=D=\naws_session_token=E\n[half]\naws_access_key_id=F\n";
        let keys = profile_keys(text, profile);
        let keys = keys.as_ref().map(|keys| (&*keys.access_key, &*keys.secret_key, &*keys.session_token));
        assert_eq!(keys, expected, "{profile}");
    }

    #[test]
    fn keys_of_a_profile() {
        check_profile("default", Some(("A", "B", "")));
        check_profile("other", Some(("C", "D=", "E")));
        check_profile("half", None);
        check_profile("none", None);
    }

    /// Searches in an environment, `URL` in which is a server that answers so; the access key found, and what was asked.
    async fn find(env: &[(&str, &str)], replies: &[Reply]) -> (Result<String, String>, Vec<Heard>) {
        let server = Server::start(replies).await;
        let url = server.url("").to_string();
        let value = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
            found.replace("URL", url.trim_end_matches('/'))
        };
        let search = Search { profile: "", sts: server.url("/sts"), env: &value };
        let found = search.find().await;
        (
            found.map(|keys| format!("{}/{}", keys.access_key, keys.session_token)).map_err(|error| error.message),
            server.heard(),
        )
    }

    const GRANTED: &str = r#"{"Code": "Success", "AccessKeyId": "MK", "SecretAccessKey": "MS", "Token": "MT"}"#;

    #[tokio::test]
    async fn the_environment_comes_first() {
        let env = [("AWS_ACCESS_KEY_ID", "EK"), ("AWS_SECRET_ACCESS_KEY", "ES"), ("AWS_SESSION_TOKEN", "ET")];
        let (found, heard) = find(&env, &[]).await;
        assert_eq!((found, heard.len()), (Ok("EK/ET".to_owned()), 0));
    }

    #[tokio::test]
    async fn a_machine_asks_its_metadata_service() {
        let env = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", "URL")];
        let replies = [Reply::text(200, "T"), Reply::text(200, "role-a\n"), Reply::json(200, GRANTED)];
        let (found, heard) = find(&env, &replies).await;
        assert_eq!(found, Ok("MK/MT".to_owned()));
        let lines: Vec<String> = heard.iter().map(Heard::line).collect();
        let role = format!("GET {ROLES}role-a");
        assert_eq!(lines, ["PUT /latest/api/token".to_owned(), format!("GET {ROLES}"), role]);
        assert_eq!(heard[0].header("x-aws-ec2-metadata-token-ttl-seconds"), "300");
        assert!(heard[1..].iter().all(|one| one.header("x-aws-ec2-metadata-token") == "T"));
        let error = find(&env, &[Reply::text(404, "no")]).await.0.expect_err("no keys");
        assert!(error.contains("nor from the metadata service"), "{error}");
        let error = find(&[("AWS_EC2_METADATA_DISABLED", "true")], &[]).await.0.expect_err("no keys");
        assert!(error.starts_with("no AWS credentials"), "{error}");
    }

    #[tokio::test]
    async fn a_container_asks_its_endpoint() {
        let env = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "URL/creds"), ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "T")];
        let (found, heard) = find(&env, &[Reply::json(200, GRANTED)]).await;
        assert_eq!((found, heard[0].line().as_str()), (Ok("MK/MT".to_owned()), "GET /creds"));
        assert_eq!(heard[0].header("authorization"), "T");
    }

    #[tokio::test]
    async fn a_web_identity_assumes_its_role() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("token");
        std::fs::write(&file, "W\n").expect("written");
        let env = [("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().expect("UTF-8")), ("AWS_ROLE_ARN", "arn:r")];
        let granted = "<Credentials><AccessKeyId>RK</AccessKeyId><SecretAccessKey>RS</SecretAccessKey>\
                       <SessionToken>RT</SessionToken></Credentials>";
        let (found, heard) = find(&env, &[Reply::text(200, granted)]).await;
        assert_eq!((found, heard[0].line().as_str()), (Ok("RK/RT".to_owned()), "POST /sts"));
        for part in ["Action=AssumeRoleWithWebIdentity", "RoleArn=arn%3Ar", "WebIdentityToken=W"] {
            assert!(heard[0].body.contains(part), "{}", heard[0].body);
        }
        assert_eq!(heard[0].header("authorization"), "", "the token is all that it needs");
    }
}
