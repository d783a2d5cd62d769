//! A web server that stands for a vendor: it answers as it is told to and remembers what it heard.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Response};
use parking_lot::Mutex;
use reqwest::Url;
use serde::de::DeserializeOwned;

use super::data::tests::notice;
use super::*;

/// What the server got.
#[derive(Debug, Clone)]
pub struct Heard {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Heard {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// `POST /path`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Reply {
    pub fn json(status: u16, body: &str) -> Reply {
        Reply {
            status,
            headers: vec![("content-type", "application/json; charset=utf-8".to_owned())],
            body: body.to_owned(),
        }
    }

    pub fn text(status: u16, body: &str) -> Reply {
        Reply { status, headers: vec![("content-type", "text/plain".to_owned())], body: body.to_owned() }
    }

    pub fn redirect(to: &str) -> Reply {
        Reply { status: 302, headers: vec![("location", to.to_owned())], body: String::new() }
    }
}

pub struct Server {
    port: u16,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Server {
    /// Gives these answers in turn, then empty ones of 200.
    pub async fn start(replies: &[Reply]) -> Server {
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let replies = Arc::new(Mutex::new(replies.iter().cloned().collect::<VecDeque<Reply>>()));
        let inbox = heard.clone();
        let handler = move |request: Request| async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 16 << 20).await.expect("a body");
            inbox.lock().push(Heard {
                method: parts.method.to_string(),
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or("").to_owned(),
                headers: parts.headers,
                body: String::from_utf8(body.to_vec()).expect("UTF-8"),
            });
            let reply = replies.lock().pop_front().unwrap_or_else(|| Reply::text(200, ""));
            let response = Response::builder().status(reply.status);
            let response = reply.headers.iter().fold(response, |response, (name, value)| response.header(*name, value));
            response.body(Body::from(reply.body)).expect("a response")
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handler)).await });
        Server { port, heard }
    }

    pub fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://127.0.0.1:{}{path}", self.port)).expect("a URL")
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().clone()
    }
}

/// The global settings with every address at the server.
fn global(server: &Server) -> Global {
    let at = |path: &str| setting::HttpUrl(server.url(path));
    let mut global = Global::default();
    global.fixed = global::FixedUrls {
        pushover: at("/pushover"),
        pagerduty_v1: at("/pagerduty-v1"),
        slack_post: at("/slack-post").0.to_string(),
        slack_update: at("/slack-update"),
        sts: Some(at("/sts")),
    };
    global
}

/// Builds an integration from its settings; `URL` in them is the server's address.
pub fn build<C: Configured + DeserializeOwned>(yaml: &str, server: &Server) -> Result<Integration, String> {
    let yaml = yaml.replace("URL", server.url("").as_str().trim_end_matches('/'));
    let config: C = serde_saphyr::from_str(&yaml).map_err(|error| error.to_string())?;
    config.build(&global(server))
}

/// Delivers a notice to a server that gives these answers; tells how it went, and what the server heard.
pub async fn deliver<C: Configured + DeserializeOwned>(
    yaml: &str,
    replies: &[Reply],
    notice: &Notice,
) -> (Result<Memory, NotifyError>, Vec<Heard>) {
    let server = Server::start(replies).await;
    let integration = build::<C>(yaml, &server).unwrap_or_else(|message| panic!("{yaml}: {message}"));
    let sent = attempt(&integration, notice, &default_templates(), ATTEMPT_TIMEOUT).await;
    (sent, server.heard())
}

/// As [`deliver`], where one request is made and taken.
pub async fn delivered<C: Configured + DeserializeOwned>(yaml: &str, reply: Reply, notice: &Notice) -> Heard {
    let (sent, mut heard) = deliver::<C>(yaml, &[reply], notice).await;
    sent.expect("taken");
    assert_eq!(heard.len(), 1, "{heard:?}");
    heard.remove(0)
}

/// Whether settings are taken, and if not, that the reason says this.
pub fn check_settings<C: Configured + DeserializeOwned>(yaml: &str, expected: Result<(), &str>) {
    let built = serde_saphyr::from_str::<C>(yaml).map_err(|error| error.to_string());
    match (built.and_then(|config| config.build(&Global::default())), expected) {
        (Ok(_), Ok(())) => {}
        (Err(message), Err(part)) => assert!(message.contains(part), "{yaml}: {message} does not say {part:?}"),
        (built, expected) => panic!("{yaml}: {built:?} instead of {expected:?}"),
    }
}

/// The notice of two alerts once both are resolved.
pub fn resolved() -> Notice {
    Notice { now_ms: 1_000_000, ..notice() }
}

/// SHA-256 of the notice's group key.
pub const KEY_HASH: &str = "af94c9e8f6a3043625e36c6f472fe6be85ac23a9117184ee4cb7b4ad7401a47e";
