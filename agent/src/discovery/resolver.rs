//! A small resolver: asks the name servers of `/etc/resolv.conf` for records of one type (RFC 1035, 2782, 3596), by UDP,
//! and by TCP where the answer does not fit.
//!
//! `getaddrinfo` knows addresses only, and discovery needs SRV, MX and NS. An answer is read up to 64 KiB; names in it up
//! to 255 bytes and so many jumps that none can go round.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use service::config::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use uuid::Uuid;

const TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 2;
const MAX_SERVERS: usize = 3;
const MAX_SEARCH: usize = 6;
const MAX_NAME_BYTES: usize = 255;
const MAX_JUMPS: usize = 32;
const NAME_ERROR: u8 = 3;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    Address(IpAddr),
    Service {
        target: String,
        port: u16,
    },
    /// A mail or name server.
    Host(String),
}

pub struct Resolver {
    config: PathBuf,
}

impl Default for Resolver {
    fn default() -> Self {
        Resolver { config: PathBuf::from("/etc/resolv.conf") }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Settings {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    dots: usize,
}

impl Settings {
    fn parse(text: &str) -> Settings {
        let mut settings = Settings { servers: Vec::new(), search: Vec::new(), dots: 1 };
        for line in text.lines() {
            let mut fields = line.split(['#', ';']).next().unwrap_or("").split_ascii_whitespace();
            match fields.next() {
                Some("nameserver") => {
                    let Some(server) = fields.next() else { continue };
                    let server = server.split('%').next().unwrap_or(server);
                    let server = server.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)).or_else(|_| server.parse());
                    if settings.servers.len() < MAX_SERVERS {
                        settings.servers.extend(server.ok());
                    }
                }
                Some("search" | "domain") => {
                    settings.search =
                        fields.take(MAX_SEARCH).map(|name| name.trim_end_matches('.').to_owned()).collect();
                }
                Some("options") => {
                    for option in fields {
                        let dots = option.strip_prefix("ndots:").and_then(|dots| dots.parse().ok());
                        settings.dots = dots.unwrap_or(settings.dots).min(15);
                    }
                }
                _ => {}
            }
        }
        settings
    }

    /// The full names that a name may mean, in the order they are asked.
    fn names(&self, name: &str) -> Vec<String> {
        if let Some(rooted) = name.strip_suffix('.') {
            return vec![rooted.to_owned()];
        }
        let searched = self.search.iter().map(|domain| format!("{name}.{domain}"));
        if name.matches('.').count() >= self.dots {
            std::iter::once(name.to_owned()).chain(searched).collect()
        } else {
            searched.chain(std::iter::once(name.to_owned())).collect()
        }
    }
}

impl Resolver {
    #[cfg(test)]
    pub fn with_config(config: PathBuf) -> Resolver {
        Resolver { config }
    }

    /// All records of a name, sorted. A name that does not exist has none.
    pub async fn look_up(&self, name: &str, record: RecordType) -> Result<Vec<Answer>, String> {
        let path = self.config.display();
        let text = std::fs::read_to_string(&self.config).map_err(|error| format!("{path}: {error}"))?;
        let settings = Settings::parse(&text);
        let mut failure = None;
        for full in settings.names(name) {
            match ask_all(&settings.servers, &full, record).await {
                Ok(Some(answers)) => return Ok(answers),
                Ok(None) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(Vec::new()), |error| Err(format!("could not resolve {name:?}: {error}")))
    }
}

/// The first answer of any server; `None`: there is no such name.
async fn ask_all(servers: &[SocketAddr], name: &str, record: RecordType) -> Result<Option<Vec<Answer>>, String> {
    let mut failure = "no name servers are configured".to_owned();
    for server in servers.iter().cycle().take(servers.len() * ATTEMPTS) {
        match tokio::time::timeout(TIMEOUT, ask(*server, name, record)).await {
            Ok(Ok(answers)) => return Ok(answers),
            Ok(Err(error)) => failure = format!("{server}: {error}"),
            Err(_) => failure = format!("{server}: no answer within {TIMEOUT:?}"),
        }
    }
    Err(failure)
}

async fn ask(server: SocketAddr, name: &str, record: RecordType) -> Result<Option<Vec<Answer>>, String> {
    let said = |error: std::io::Error| error.to_string();
    let id = Uuid::new_v4().as_u128() as u16;
    let question = question(id, name, record)?;
    let local: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(local).await.map_err(said)?;
    socket.connect(server).await.map_err(said)?;
    socket.send(&question).await.map_err(said)?;
    let mut buffer = vec![0; 65_535];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(said)?;
        // Another's answer: ours may still come.
        let Some(reply) = Reply::read(&buffer[..length], id) else { continue };
        if !reply.is_cut {
            return reply.answers(record);
        }
        break;
    }
    let mut stream = TcpStream::connect(server).await.map_err(said)?;
    stream.write_all(&(question.len() as u16).to_be_bytes()).await.map_err(said)?;
    stream.write_all(&question).await.map_err(said)?;
    let length = stream.read_u16().await.map_err(said)?;
    let reply = &mut buffer[..usize::from(length)];
    stream.read_exact(reply).await.map_err(said)?;
    Reply::read(reply, id).ok_or("the answer is of another question")?.answers(record)
}

fn type_of(record: RecordType) -> u16 {
    match record {
        RecordType::A => 1,
        RecordType::Ns => 2,
        RecordType::Mx => 15,
        RecordType::Aaaa => 28,
        RecordType::Srv => 33,
    }
}

fn question(id: u16, name: &str, record: RecordType) -> Result<Vec<u8>, String> {
    let mut message = Vec::with_capacity(name.len() + 18);
    message.extend(id.to_be_bytes());
    // Recursion is desired; one question.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for part in name.split('.') {
        if part.is_empty() || part.len() > 63 || name.len() >= MAX_NAME_BYTES {
            return Err(format!("{name:?} is no name"));
        }
        message.push(part.len() as u8);
        message.extend(part.as_bytes());
    }
    message.push(0);
    message.extend(type_of(record).to_be_bytes());
    message.extend(1u16.to_be_bytes());
    Ok(message)
}

/// A reply whose header is read.
struct Reply<'a> {
    message: &'a [u8],
    is_cut: bool,
    code: u8,
    questions: u16,
    records: u16,
}

impl<'a> Reply<'a> {
    /// `None` where it does not answer this question.
    fn read(message: &'a [u8], id: u16) -> Option<Reply<'a>> {
        let header: &[u8; 12] = message.first_chunk()?;
        let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let is_reply = header[2] & 0x80 != 0;
        (number(0) == id && is_reply).then(|| Reply {
            message,
            is_cut: header[2] & 2 != 0,
            code: header[3] & 0x0f,
            questions: number(4),
            records: number(6),
        })
    }

    /// The records of a type; `None`: there is no such name.
    fn answers(&self, record: RecordType) -> Result<Option<Vec<Answer>>, String> {
        match self.code {
            0 => {}
            NAME_ERROR => return Ok(None),
            code => return Err(format!("the server failed with code {code}")),
        }
        self.records(record).map(Some).ok_or_else(|| "the answer is malformed".to_owned())
    }

    fn records(&self, record: RecordType) -> Option<Vec<Answer>> {
        let mut at = 12;
        for _ in 0..self.questions {
            at = self.name(at)?.1 + 4;
        }
        let mut answers = Vec::new();
        for _ in 0..self.records {
            let (_, after) = self.name(at)?;
            let head: &[u8; 10] = self.message.get(after..)?.first_chunk()?;
            let (kind, length) =
                (u16::from_be_bytes([head[0], head[1]]), usize::from(u16::from_be_bytes([head[8], head[9]])));
            let data_at = after + 10;
            let data = self.message.get(data_at..data_at + length)?;
            if kind == type_of(record) {
                answers.push(self.answer(record, data, data_at)?);
            }
            at = data_at + length;
        }
        answers.sort();
        answers.dedup();
        Some(answers)
    }

    fn answer(&self, record: RecordType, data: &[u8], at: usize) -> Option<Answer> {
        Some(match record {
            RecordType::A => Answer::Address(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
            RecordType::Aaaa => Answer::Address(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
            RecordType::Ns => Answer::Host(self.name(at)?.0),
            RecordType::Mx => Answer::Host(self.name(at + 2)?.0),
            RecordType::Srv => {
                let port = u16::from_be_bytes([*data.get(4)?, *data.get(5)?]);
                Answer::Service { target: self.name(at + 6)?.0, port }
            }
        })
    }

    /// The name at a place, with its final dot, and the place after it.
    fn name(&self, mut at: usize) -> Option<(String, usize)> {
        let (mut name, mut after, mut jumps) = (String::new(), None, 0);
        loop {
            let length = *self.message.get(at)?;
            match length {
                0 => break,
                0xc0.. => {
                    after = after.or(Some(at + 2));
                    at = usize::from(u16::from_be_bytes([length & 0x3f, *self.message.get(at + 1)?]));
                    jumps += 1;
                    if jumps > MAX_JUMPS {
                        return None;
                    }
                }
                1..=63 => {
                    let end = at + 1 + usize::from(length);
                    name += &String::from_utf8_lossy(self.message.get(at + 1..end)?);
                    name.push('.');
                    if name.len() > MAX_NAME_BYTES * 3 {
                        return None;
                    }
                    at = end;
                }
                _ => return None,
            }
        }
        if name.is_empty() {
            name.push('.');
        }
        Some((name, after.unwrap_or(at + 1)))
    }
}

/// Reads a message as a reply of any type: for the fuzzer.
pub fn read_any(message: &[u8]) {
    let id = message.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    let Some(reply) = Reply::read(message, id) else { return };
    for record in [RecordType::A, RecordType::Aaaa, RecordType::Srv, RecordType::Mx, RecordType::Ns] {
        let _ = reply.answers(record);
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A reply to a question with these records: type and data, whose names are written out.
    pub fn reply(question: &[u8], code: u8, is_cut: bool, records: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut message = question.to_vec();
        message[2] = 0x81 | if is_cut { 2 } else { 0 };
        message[3] = 0x80 | code;
        message[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        for (kind, data) in records {
            // The question's name, by a pointer; class and time to live.
            message.extend([0xc0, 12]);
            message.extend(kind.to_be_bytes());
            message.extend([0, 1, 0, 0, 0, 60]);
            message.extend((data.len() as u16).to_be_bytes());
            message.extend(data);
        }
        message
    }

    pub fn written(name: &str) -> Vec<u8> {
        let parts = name.split('.').flat_map(|part| [&[part.len() as u8], part.as_bytes()].concat());
        parts.chain([0]).collect()
    }

    fn check(record: RecordType, records: &[(u16, Vec<u8>)], expected: &[Answer]) {
        let question = question(7, "x.test", record).expect("a name");
        let message = reply(&question, 0, false, records);
        let got = Reply::read(&message, 7).expect("a reply").answers(record);
        assert_eq!(got, Ok(Some(expected.to_vec())));
        for length in 12..message.len() {
            let cut = Reply::read(&message[..length], 7).expect("a header").answers(record);
            assert!(cut.is_err(), "{length} bytes");
        }
    }

    #[test]
    fn every_type() {
        let host = |name: &str| Answer::Host(name.to_owned());
        check(
            RecordType::A,
            &[(5, written("y.test")), (1, vec![10, 0, 0, 2])],
            &[Answer::Address([10, 0, 0, 2].into())],
        );
        let ip6: Ipv6Addr = "2001:db8::1".parse().expect("an address");
        check(RecordType::Aaaa, &[(28, ip6.octets().to_vec())], &[Answer::Address(ip6.into())]);
        let srv = [vec![0, 1, 0, 2, 0x1f, 0x90], written("a.b")].concat();
        check(RecordType::Srv, &[(33, srv)], &[Answer::Service { target: "a.b.".into(), port: 8080 }]);
        check(RecordType::Mx, &[(15, [vec![0, 10], vec![0xc0, 12]].concat())], &[host("x.test.")]);
        check(RecordType::Ns, &[(2, written("ns.test"))], &[host("ns.test.")]);
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let question = question(7, "x.test", RecordType::Ns).expect("a name");
        // A name that points to itself.
        let at = question.len() + 12;
        let message = reply(&question, 0, false, &[(2, vec![0xc0, at as u8])]);
        assert!(Reply::read(&message, 7).expect("a reply").answers(RecordType::Ns).is_err());
        assert!(Reply::read(&message, 8).is_none(), "another's");
        let message = reply(&question, NAME_ERROR, false, &[]);
        assert_eq!(Reply::read(&message, 7).expect("a reply").answers(RecordType::Ns), Ok(None));
        assert!(super::question(1, "a..b", RecordType::A).is_err());
    }

    #[test]
    fn names_are_searched() {
        let text = "# comment\nnameserver 10.0.0.1\nnameserver ::1\nsearch a.test b.test.\noptions ndots:2 rotate\n";
        let settings = Settings::parse(text);
        assert_eq!(settings.servers.len(), 2);
        assert_eq!(settings.names("x.y"), ["x.y.a.test", "x.y.b.test", "x.y"]);
        assert_eq!(settings.names("x.y.z"), ["x.y.z", "x.y.z.a.test", "x.y.z.b.test"]);
        assert_eq!(settings.names("x."), ["x"]);
    }
}
