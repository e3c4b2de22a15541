//! A client that counts: every message has its own number and content, and the numbers that got their 250 are kept.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::smtp::Client;

/// Where, as whom and to whom messages go.
#[derive(Debug, Clone)]
pub struct Load {
    /// The server.
    pub server: SocketAddr,
    /// User and password, where the server wants them.
    pub login: Option<(String, String)>,
    /// The envelope's sender.
    pub from: String,
    /// The recipient.
    pub to: String,
}

impl Load {
    /// Sends messages numbered `first`.. until `count` of them are acknowledged or `limit` is over, over `sessions`
    /// connections at once. A message that got no 250 is given up and the next number is taken. Returns the acknowledged.
    #[must_use]
    pub fn run(&self, first: u32, count: usize, sessions: u32, limit: Duration) -> Vec<u32> {
        let end = Instant::now() + limit;
        let acknowledged = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for session in 0..sessions {
                let acknowledged = &acknowledged;
                scope.spawn(move || {
                    self.session(first + session, sessions, count, end, acknowledged)
                });
            }
        });
        let mut numbers = acknowledged.into_inner().expect("no panic");
        numbers.sort_unstable();
        numbers
    }

    fn session(
        &self,
        first: u32,
        step: u32,
        count: usize,
        end: Instant,
        acknowledged: &Mutex<Vec<u32>>,
    ) {
        let mut client: Option<Client> = None;
        let mut number = first;
        while Instant::now() < end && acknowledged.lock().expect("no panic").len() < count {
            let outcome = match client.take() {
                Some(client) => Ok(client),
                None => self.connect(),
            };
            let sent = outcome.and_then(|mut client| {
                client
                    .deliver(&self.from, &self.to, &message(number))
                    .map(|()| client)
            });
            match sent {
                Ok(good) => {
                    acknowledged.lock().expect("no panic").push(number);
                    client = Some(good);
                }
                // Whatever it was: a mail server would come again a little later.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
            number += step;
        }
    }

    fn connect(&self) -> std::io::Result<Client> {
        let mut client = Client::hello(self.server)?;
        if let Some((user, password)) = &self.login {
            client.login(user, password)?;
        }
        Ok(client)
    }
}

/// The message with this number: a few hundred to some thousand bytes that only it has, with lines that begin with dots.
#[must_use]
pub fn message(number: u32) -> Vec<u8> {
    use std::fmt::Write;
    let mut text = format!(
        "From: alice@example.test\r\nTo: load@example.test\r\nSubject: load {number}\r\nDate: Mon, 02 Mar 2026 10:00:00 +0000\r\n\
         Message-ID: <load-{number}@example.test>\r\n\r\n"
    );
    let mut state = number.wrapping_mul(2_654_435_761) | 1;
    for line in 0..(4 + number % 50) {
        // xorshift: the same bytes for the same number, everywhere.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let dot = if state.is_multiple_of(7) { "." } else { "" };
        write!(text, "{dot}{number:08} {line:04} {state:08x} ").expect("memory");
        text.extend(std::iter::repeat_n('x', (state % 40) as usize));
        text.push_str("\r\n");
    }
    text.into_bytes()
}

/// The number of the message in these bytes, if they hold the whole of it, unchanged, at their end.
#[must_use]
pub fn recognize(bytes: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(bytes).ok()?;
    let start = text.find("Subject: load ")? + "Subject: load ".len();
    let number = text[start..].lines().next()?.trim().parse().ok()?;
    let original = message(number);
    let body = crate::maildir::body(&original);
    (crate::maildir::body(bytes) == body).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_message_is_recognized_and_a_damaged_one_is_not() {
        let mut received = b"Return-Path: <x@y>\r\nReceived: by z\r\n".to_vec();
        received.extend(message(7));
        assert_eq!(recognize(&received), Some(7));
        received.pop();
        assert_eq!(recognize(&received), None);
    }
}
