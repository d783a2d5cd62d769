//! Standard input: `program | binnacle agent` with `-` among the paths. It is read by a thread that nobody waits for, since
//! nothing can interrupt it.

use std::io::{BufRead, BufReader, Read};

use model::{Labels, MAX_LINE_BYTES};
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use super::Received;

pub async fn run(sender: Sender<Received>, stop: CancellationToken) {
    let started = std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        read(std::io::stdin(), &mut |received| sender.blocking_send(received).is_ok());
        tracing::info!("standard input is read to its end");
    });
    match started {
        Ok(_) => stop.cancelled().await,
        Err(error) => tracing::error!(%error, "standard input is not read"),
    }
}

/// Calls back for every line until the end, or until nobody takes them.
fn read(input: impl Read, take: &mut dyn FnMut(Received) -> bool) {
    let mut input = BufReader::with_capacity(64 << 10, input);
    let labels = Labels::from_pairs([("filename", "stdin")]);
    let (mut line, mut is_over) = (Vec::new(), false);
    loop {
        let Ok(bytes) = input.fill_buf() else { return };
        let is_end = bytes.is_empty();
        let newline = memchr::memchr(b'\n', bytes);
        let used = newline.map_or(bytes.len(), |at| at + 1);
        let part = &bytes[..newline.unwrap_or(bytes.len())];
        let room = MAX_LINE_BYTES - line.len();
        line.extend_from_slice(&part[..part.len().min(room)]);
        is_over |= part.len() > room;
        input.consume(used);
        if (newline.is_some() || is_end) && !line.is_empty() {
            let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned();
            let metadata = Labels::from_pairs([("truncated", if is_over { "true" } else { "" })]);
            let received = Received { labels: labels.clone(), metadata, text, ..Received::default() };
            if !take(received) {
                return;
            }
            line.clear();
            is_over = false;
        }
        if is_end {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &[u8], expected: &[(usize, bool)]) {
        let mut found = Vec::new();
        read(input, &mut |received| {
            found.push((received.text.len(), !received.metadata.is_empty()));
            true
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn lines_are_bounded() {
        check(b"one\r\n\nthree", &[(3, false), (5, false)]);
        let long = [vec![b'x'; MAX_LINE_BYTES + 5], b"\ny\n".to_vec()].concat();
        check(&long, &[(MAX_LINE_BYTES, true), (1, false)]);
    }
}
