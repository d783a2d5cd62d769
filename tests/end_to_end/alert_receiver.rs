//! A receiver of notifications that remembers what it was told, and when.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;

/// One notification.
#[derive(Debug, Clone)]
pub struct Told {
    pub at: Instant,
    pub path: String,
    pub idempotency_key: String,
    pub body: Value,
}

/// Answers 200; a path with `/fail/N/` in it answers 500 to its first N requests, which are not remembered.
pub struct Webhook {
    pub port: u16,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Webhook {
    pub fn start() -> Webhook {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let (inbox, asked) = (told.clone(), Arc::<Mutex<HashMap<String, usize>>>::default());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (inbox, asked) = (inbox.clone(), asked.clone());
                std::thread::spawn(move || answer(stream, &inbox, &asked));
            }
        });
        Webhook { port, told }
    }

    pub fn told(&self) -> Vec<Told> {
        self.told.lock().expect("no panic while held").clone()
    }

    /// The notifications of one alert, in the order they came.
    pub fn of(&self, alertname: &str) -> Vec<Value> {
        let of_alert = |told: &Told| told.body["groupLabels"]["alertname"] == alertname;
        self.told().into_iter().filter(of_alert).map(|told| told.body).collect()
    }
}

fn answer(mut stream: TcpStream, inbox: &Mutex<Vec<Told>>, asked: &Mutex<HashMap<String, usize>>) {
    let Some(told) = read(&mut stream) else { return };
    let failures: usize =
        told.path.split_once("/fail/").and_then(|(_, rest)| rest.split('/').next()?.parse().ok()).unwrap_or(0);
    let count = {
        let mut asked = asked.lock().expect("no panic while held");
        let count = asked.entry(told.path.clone()).or_default();
        *count += 1;
        *count
    };
    let status = if count <= failures { "500 Internal Server Error" } else { "200 OK" };
    if count > failures {
        inbox.lock().expect("no panic while held").push(told);
    }
    // The sender may be gone: then nobody reads the answer.
    let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
}

fn read(stream: &mut impl Read) -> Option<Told> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let header = |name: &str| {
            let found = head.lines().find_map(|line| {
                let (known, value) = line.split_once(':')?;
                known.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            });
            found.unwrap_or_default()
        };
        if body.len() >= header("content-length").parse().ok()? {
            return Some(Told {
                at: Instant::now(),
                path: head.split(' ').nth(1)?.to_owned(),
                idempotency_key: header("idempotency-key"),
                body: serde_json::from_str(body).ok()?,
            });
        }
    }
}
