//! A remote-write 1.0 sender.

use std::thread::JoinHandle;
use std::time::Duration;

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Label {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// `name{s="…"}` with samples of (milliseconds, value).
pub fn series(name: &str, s: u64, samples: &[(i64, f64)]) -> TimeSeries {
    let label = |name: &str, value: String| Label { name: name.to_owned(), value };
    TimeSeries {
        labels: vec![label("__name__", name.to_owned()), label("s", s.to_string())],
        samples: samples.iter().map(|(timestamp, value)| Sample { value: *value, timestamp: *timestamp }).collect(),
    }
}

/// One request under way.
pub struct Sender(JoinHandle<Result<u16, String>>);

impl Sender {
    /// A whole request's body, as it goes over the wire.
    pub fn body(timeseries: impl Iterator<Item = TimeSeries>) -> Vec<u8> {
        let message = WriteRequest { timeseries: timeseries.collect() }.encode_to_vec();
        snap::raw::Encoder::new().compress_vec(&message).expect("compresses")
    }

    pub fn start(url: String, body: Vec<u8>) -> Sender {
        Sender(std::thread::spawn(move || {
            service::http::install_tls_provider();
            let client = reqwest::blocking::Client::builder().timeout(Duration::from_secs(30)).build();
            let request = client.expect("a client").post(url).header("content-encoding", "snappy").body(body);
            request.send().map(|response| response.status().as_u16()).map_err(|error| error.to_string())
        }))
    }

    pub fn acknowledged(self) -> bool {
        self.0.join().expect("the sender") == Ok(204)
    }

    pub fn must_be_acknowledged(self) {
        assert_eq!(self.0.join().expect("the sender"), Ok(204));
    }
}
