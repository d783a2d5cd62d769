//! A running `journalctl`, read line by line.

use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::entry::FIELDS;

/// An entry printed longer than this is passed over: eight times a line's limit, as bytes that are not UTF-8 are printed.
const MAX_ENTRY_BYTES: usize = 4 << 20;
/// How much of what the program complains is kept.
const MAX_COMPLAINT_BYTES: usize = 500;

#[derive(Debug, PartialEq)]
pub enum Next {
    Line(Vec<u8>),
    /// A line over the limit was passed over.
    Overlong,
    End,
}

/// The child is killed when this is dropped.
pub struct Follower {
    child: Child,
    lines: Lines<ChildStdout>,
    complaint: JoinHandle<String>,
}

impl Follower {
    /// Follows from after a cursor, or from the beginning of this boot.
    pub fn spawn(program: &Path, cursor: Option<&str>) -> io::Result<Follower> {
        let mut command = Command::new(program);
        command.args(["--follow", "--no-tail", "--output=json", "--all", "--no-pager"]);
        command.arg(format!("--output-fields={FIELDS}"));
        match cursor {
            Some(cursor) => command.arg(format!("--after-cursor={cursor}")),
            None => command.arg("--boot"),
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(io::Error::other("the child has no output"));
        };
        Ok(Follower { child, lines: Lines::new(stdout), complaint: tokio::spawn(last_words(stderr)) })
    }

    /// The next line. Cancelling loses nothing.
    pub async fn next(&mut self) -> io::Result<Next> {
        self.lines.next().await
    }

    /// Kills the child, should it still run, and says how it ended.
    pub async fn end(mut self) -> String {
        // It may have ended by itself.
        let _ = self.child.start_kill();
        let status = self.child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        let complaint = self.complaint.await.unwrap_or_default();
        if complaint.is_empty() { status } else { format!("{status}: {complaint}") }
    }
}

/// Reads to the end, so that the writer never waits, and keeps the last of it.
async fn last_words(mut stderr: impl AsyncRead + Unpin) -> String {
    let (mut buffer, mut kept) = ([0; 1024], Vec::new());
    while let Ok(len @ 1..) = stderr.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..len]);
        kept.drain(..kept.len().saturating_sub(MAX_COMPLAINT_BYTES));
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

/// Lines of bounded length.
struct Lines<R> {
    input: BufReader<R>,
    partial: Vec<u8>,
    is_overlong: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(input: R) -> Lines<R> {
        Lines { input: BufReader::with_capacity(64 << 10, input), partial: Vec::new(), is_overlong: false }
    }

    /// Cancelling loses nothing: what was read of a line is kept. A last line without its end is no line.
    async fn next(&mut self) -> io::Result<Next> {
        loop {
            let chunk = self.input.fill_buf().await?;
            if chunk.is_empty() {
                return Ok(Next::End);
            }
            let newline = memchr::memchr(b'\n', chunk);
            let part = &chunk[..newline.unwrap_or(chunk.len())];
            if self.is_overlong || self.partial.len() + part.len() > MAX_ENTRY_BYTES {
                self.is_overlong = true;
                self.partial = Vec::new();
            } else {
                self.partial.extend_from_slice(part);
            }
            let used = newline.map_or(chunk.len(), |at| at + 1);
            self.input.consume(used);
            if newline.is_some() {
                let line = std::mem::take(&mut self.partial);
                let was_overlong = std::mem::take(&mut self.is_overlong);
                return Ok(if was_overlong { Next::Overlong } else { Next::Line(line) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(input: &[u8], expected: &[Next]) {
        let mut lines = Lines::new(input);
        for next in expected {
            assert_eq!(lines.next().await.expect("read"), *next);
        }
    }

    #[tokio::test]
    async fn lines_are_bounded_and_whole() {
        let mut input = b"one\n\n".to_vec();
        input.extend(vec![b'x'; MAX_ENTRY_BYTES + 1]);
        input.extend(b"\ntwo\nhalf");
        let line = |text: &str| Next::Line(text.as_bytes().to_vec());
        check(&input, &[line("one"), line(""), Next::Overlong, line("two"), Next::End]).await;
    }
}
