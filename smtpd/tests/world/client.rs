//! A client that speaks text.

use super::*;

/// Speaks lines.
pub(crate) struct Client<S>(pub(super) BufReader<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    pub(crate) fn into_inner(self) -> S {
        self.0.into_inner()
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// The next reply, all lines of it; empty at the end.
    pub(crate) async fn hear(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(Duration::from_secs(10), self.0.read_line(&mut line));
            let read = read.await.expect("silence").unwrap_or(0);
            reply.push_str(&line);
            if read == 0 || line.as_bytes().get(3) != Some(&b'-') {
                return reply;
            }
        }
    }

    pub(crate) async fn expect(&mut self, start: &str) -> String {
        let reply = self.hear().await;
        assert!(
            reply.starts_with(start),
            "expected {start:?}\n     got {reply:?}"
        );
        reply
    }

    pub(crate) async fn ask(&mut self, line: &str, start: &str) -> String {
        self.send(&format!("{line}\r\n")).await;
        self.expect(start).await
    }

    /// MAIL and RCPT, all accepted, and DATA.
    pub(crate) async fn begin(&mut self, sender: &str, recipients: &[&str]) {
        self.ask(&format!("MAIL FROM:<{sender}>"), "250 2.1.0")
            .await;
        for recipient in recipients {
            self.ask(&format!("RCPT TO:<{recipient}>"), "250 2.1.5")
                .await;
        }
        self.ask("DATA", "354").await;
    }
}
