//! One conversation with a mail server: encryption, who we are, one message.
//!
//! Of the ways to log in that a server offers the first is taken for which there is a secret, as Alertmanager does:
//! CRAM-MD5 (RFC 2195) with `auth_secret`, PLAIN (RFC 4616) and LOGIN with `auth_password`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lettre::Message;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::Ehlo;
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use md5::{Digest, Md5};

use super::{ATTEMPT_TIMEOUT, NotifyError};

/// When the conversation is encrypted.
pub enum Encryption {
    Never,
    /// Before the first word.
    AtOnce(TlsParameters),
    /// By STARTTLS, or not at all.
    Upgraded(TlsParameters),
}

/// Who we are to the server; nobody without a name.
#[derive(Default)]
pub struct Login {
    pub username: String,
    pub password: Option<String>,
    pub secret: Option<String>,
    pub identity: String,
}

pub struct Server<'a> {
    pub host: &'a str,
    pub port: u16,
    pub hello: &'a str,
    pub encryption: Encryption,
    pub login: Login,
}

/// A permanent refusal (5xx) stays one; everything else may pass.
fn failed(error: Error) -> NotifyError {
    NotifyError { retry: !error.is_permanent(), ..NotifyError::for_now(error) }
}

impl Server<'_> {
    pub async fn deliver(self, message: &Message) -> Result<(), NotifyError> {
        let conversation = async {
            let hello = ClientId::Domain(self.hello.to_owned());
            let (at_once, upgraded) = match self.encryption {
                Encryption::Never => (None, None),
                Encryption::AtOnce(tls) => (Some(tls), None),
                Encryption::Upgraded(tls) => (None, Some(tls)),
            };
            let server = (self.host, self.port);
            let connected = AsyncSmtpConnection::connect_tokio1(server, Some(ATTEMPT_TIMEOUT), &hello, at_once, None);
            let mut connection = connected.await.map_err(failed)?;
            if let Some(tls) = upgraded {
                connection.starttls(tls, &hello).await.map_err(failed)?;
            }
            if !self.login.username.is_empty() {
                self.login.log_in(&mut connection, &hello).await?;
            }
            connection.send(message.envelope(), &message.formatted()).await.map_err(failed)?;
            // It has been taken: how the server says goodbye does not matter.
            let _ = connection.quit().await;
            Ok(())
        };
        let late = |_| NotifyError::for_now("the mail server did not answer in time");
        tokio::time::timeout(ATTEMPT_TIMEOUT, conversation).await.map_err(late)?
    }
}

/// A line of the conversation.
struct Command(String);

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\r\n", self.0)
    }
}

async fn say(connection: &mut AsyncSmtpConnection, line: String) -> Result<Response, NotifyError> {
    connection.command(Command(line)).await.map_err(failed)
}

impl Login {
    async fn log_in(&self, connection: &mut AsyncSmtpConnection, hello: &ClientId) -> Result<(), NotifyError> {
        let offered = mechanisms(&connection.command(Ehlo::new(hello.clone())).await.map_err(failed)?);
        for mechanism in &offered {
            match (mechanism.as_str(), &self.secret, &self.password) {
                ("CRAM-MD5", Some(secret), _) => return self.cram_md5(connection, secret).await,
                ("PLAIN", _, Some(password)) => return self.plain(connection, password).await,
                ("LOGIN", _, Some(password)) => return self.plain_in_parts(connection, password).await,
                _ => {}
            }
        }
        let offered = offered.join(" ");
        Err(NotifyError::for_good(format!(
            "the mail server offers {offered:?} to log in, for none of which there is a secret"
        )))
    }

    async fn plain(&self, connection: &mut AsyncSmtpConnection, password: &str) -> Result<(), NotifyError> {
        let answer = STANDARD.encode(format!("{}\0{}\0{password}", self.identity, self.username));
        say(connection, format!("AUTH PLAIN {answer}")).await.map(drop)
    }

    async fn plain_in_parts(&self, connection: &mut AsyncSmtpConnection, password: &str) -> Result<(), NotifyError> {
        say(connection, "AUTH LOGIN".to_owned()).await?;
        say(connection, STANDARD.encode(&self.username)).await?;
        say(connection, STANDARD.encode(password)).await.map(drop)
    }

    async fn cram_md5(&self, connection: &mut AsyncSmtpConnection, secret: &str) -> Result<(), NotifyError> {
        let challenge = say(connection, "AUTH CRAM-MD5".to_owned()).await?;
        let challenge = challenge.first_line().and_then(|line| STANDARD.decode(line.trim()).ok());
        let challenge = challenge.ok_or_else(|| NotifyError::for_now("the mail server's challenge is not base64"))?;
        let answer = format!("{} {}", self.username, hmac_md5(secret.as_bytes(), &challenge));
        say(connection, STANDARD.encode(answer)).await.map(drop)
    }
}

/// What follows `AUTH` in an answer to EHLO, in the server's order.
fn mechanisms(answer: &Response) -> Vec<String> {
    let offers = answer.message().filter_map(|line| {
        let (word, rest) = line.split_once([' ', '='])?;
        word.eq_ignore_ascii_case("AUTH").then_some(rest)
    });
    offers.flat_map(str::split_whitespace).map(str::to_ascii_uppercase).collect()
}

/// RFC 2104, in hexadecimal.
fn hmac_md5(key: &[u8], message: &[u8]) -> String {
    let mut block = [0_u8; 64];
    let hashed = Md5::digest(key);
    let key = if key.len() > block.len() { &hashed[..] } else { key };
    block[..key.len()].copy_from_slice(key);
    let padded = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Md5::new().chain_update(padded(0x36)).chain_update(message).finalize();
    let outer = Md5::new().chain_update(padded(0x5C)).chain_update(inner).finalize();
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    /// RFC 2195's own example, and RFC 2202's of a long key.
    #[test]
    fn the_answer_to_a_challenge_is_the_documented_one() {
        let challenge = b"<1896.697170952@postoffice.reston.mci.net>";
        assert_eq!(hmac_md5(b"tanstaaftanstaaf", challenge), "b913a602c7eda7a495b4e6e7334d3890");
        let long = hmac_md5(&[0xaa; 80], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(long, "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd");
    }

    /// Speaks as a server that offers ways to log in; remembers what it is told.
    pub async fn converse(
        stream: impl AsyncRead + AsyncWrite + Unpin,
        offers: &str,
        inbox: &Mutex<Vec<String>>,
    ) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 hello\r\n").await?;
        let (mut is_data, mut line) = (false, String::new());
        loop {
            stream.flush().await?;
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let said = line.trim_end();
            let answer = match said.get(..4).unwrap_or(said) {
                _ if is_data && said != "." => continue,
                "EHLO" => format!("250-test\r\n250-AUTH {offers}\r\n250 8BITMIME\r\n"),
                "AUTH" if said.ends_with("MD5") => format!("334 {}\r\n", STANDARD.encode("<1@x>")),
                "AUTH" if said.ends_with("LOGIN") => "334 VXNlcm5hbWU6\r\n".to_owned(),
                "AUTH" | "." => "235 ok\r\n".to_owned(),
                "DATA" => "354 go on\r\n".to_owned(),
                "dQ==" => "334 UGFzc3dvcmQ6\r\n".to_owned(),
                _ => "250 ok\r\n".to_owned(),
            };
            is_data = said == "DATA";
            inbox.lock().push(said.to_owned());
            stream.write_all(answer.as_bytes()).await?;
        }
    }

    async fn server(offers: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let inbox = heard.clone();
        tokio::spawn(async move { converse(listener.accept().await?.0, offers, &inbox).await });
        (port, heard)
    }

    /// What is said after EHLO by user `u` with password `p` and secret `s`, until the mail begins.
    async fn check(offers: &'static str, login: Login, expected: Result<&[&str], &str>) {
        let (port, heard) = server(offers).await;
        let message = Message::builder().from("a@x".parse().expect("a mailbox")).to("b@x".parse().expect("a mailbox"));
        let message = message.body("hello".to_owned()).expect("a message");
        let server = Server { host: "127.0.0.1", port, hello: "me", encryption: Encryption::Never, login };
        match (server.deliver(&message).await, expected) {
            (Ok(()), Ok(expected)) => {
                let heard = heard.lock().clone();
                let said = heard.iter().skip_while(|line| line.starts_with("EHLO"));
                let said: Vec<&String> = said.take_while(|line| !line.starts_with("MAIL")).collect();
                assert_eq!(said, expected, "{offers}");
                assert!(heard.iter().any(|line| line == "."), "{heard:?}");
            }
            (Err(error), Err(part)) => assert!(error.message.contains(part), "{error} does not say {part:?}"),
            (got, expected) => panic!("{offers}: {got:?} instead of {expected:?}"),
        }
    }

    fn login(password: Option<&str>, secret: Option<&str>) -> Login {
        let text = |text: Option<&str>| text.map(str::to_owned);
        Login { username: "u".into(), password: text(password), secret: text(secret), identity: "i".into() }
    }

    #[tokio::test]
    async fn the_first_way_with_a_secret_is_taken() {
        check("CRAM-MD5 PLAIN", Login::default(), Ok(&[])).await;
        check("CRAM-MD5 PLAIN", login(Some("p"), None), Ok(&["AUTH PLAIN aQB1AHA="])).await;
        check("LOGIN PLAIN", login(Some("p"), None), Ok(&["AUTH LOGIN", "dQ==", "cA=="])).await;
        let answer = STANDARD.encode(format!("u {}", hmac_md5(b"s", b"<1@x>")));
        check("PLAIN CRAM-MD5", login(None, Some("s")), Ok(&["AUTH CRAM-MD5", &answer])).await;
        check("XOAUTH2", login(Some("p"), Some("s")), Err("offers \"XOAUTH2\"")).await;
    }
}
