//! Against a real server that answers as it is told.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use model::{Labels, LogBatch, Origin};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;

/// What was sent: path, authorization, record.
type Sent = Arc<Mutex<Vec<(String, String, Vec<u8>)>>>;
type Answers = Arc<Mutex<Vec<(u16, &'static str)>>>;

async fn answer(
    State((sent, answers)): State<(Sent, Answers)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    let authorization = headers["authorization"].to_str().expect("text").to_owned();
    sent.lock().push((uri.path().to_owned(), authorization, body.to_vec()));
    let (status, text) = answers.lock().remove(0);
    (StatusCode::from_u16(status).expect("a status"), text)
}

fn batch() -> Batch {
    let mut batch = LogBatch::new("t", Origin::Pushed);
    batch.streams.push(Labels::from_pairs([("a", "b")]));
    batch.push(0, 1, "hello", 0, 0);
    Batch::Logs(batch)
}

/// Answers in this order lead to this outcome, an offset or a part of the error, after as many requests.
async fn check(answers: &[(u16, &'static str)], expected: Result<Offset, &str>) {
    let (sent, given) = (Sent::default(), Arc::new(Mutex::new(answers.to_vec())));
    let router = Router::new().fallback(answer).with_state((sent.clone(), given));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let stop = CancellationToken::new();
    let server = tokio::spawn(service::http::serve(listener, router, stop.clone()));
    let options = HttpOptions { bearer_token: Some("secret".into()), ..HttpOptions::default() };
    let producer = HttpProducer::new(&url, options).expect("a good URL");
    match (producer.append(Topic::Logs, 0, Arc::new(batch())).await, expected) {
        (Ok(offset), Ok(expected)) => assert_eq!(offset, expected),
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
        (got, expected) => panic!("{got:?} instead of {expected:?}"),
    }
    let record = bus::encode(&batch());
    let each = ("/binnacle/v1/push/logs/0".to_owned(), "Bearer secret".to_owned(), record.to_vec());
    assert_eq!(*sent.lock(), vec![each; answers.len()]);
    stop.cancel();
    server.await.expect("no panic").expect("served");
}

#[tokio::test]
async fn what_may_be_taken_later_is_sent_again() {
    check(&[(200, r#"{"offset":7}"#)], Ok(7)).await;
    check(&[(503, "full"), (429, ""), (200, r#"{"offset":8}"#)], Ok(8)).await;
    // Wrong credentials are mended by people; an answer that is none says nothing.
    check(&[(401, "who?"), (200, "{"), (200, r#"{"offset":9}"#)], Ok(9)).await;
}

#[tokio::test]
async fn what_never_will_be_taken_is_an_error_with_the_reason() {
    check(&[(400, "a bad record")], Err("400 Bad Request: a bad record")).await;
    check(&[(503, ""), (422, "too old")], Err("too old")).await;
}

#[test]
fn a_url_that_is_none_is_refused_at_once() {
    assert!(HttpProducer::new("not a url", HttpOptions::default()).is_err());
}
