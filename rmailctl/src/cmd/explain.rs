//! `rmailctl explain`: what would become of a mail, told by the smtpd that runs.

use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use daemon::config::Config;
use ipc::control::{DomainInfo, StoreControlAnswer, StoreControlRequest, TenantInfo, UserInfo};
use ipc::explain::{
    Announced, Case, Decision, ExplainAnswer, ExplainRequest, Fact, Outcome, Stage, Told,
};
use ipc::frame::{self, MAX_FRAME};
use ipc::routing::{Found, TraceStep};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::Error;
use crate::cli::{ExplainOptions, ListenerName};
use crate::cmd::{quota, trace};
use crate::operator::{Receiver, Store, unexpected};

/// Read beyond the size that smtpd takes, so that it is seen that the message is larger.
const BEYOND: u64 = 64 * 1024;

/// Asks, and shows the answer as it comes.
///
/// # Errors
/// [`Error::Findings`] if the mail is not taken for all recipients.
pub async fn run(config: &Path, options: ExplainOptions) -> Result<(), Error> {
    let config = Config::read(config)?;
    let parameters = options.mail_parameters.as_deref().unwrap_or_default();
    let mut parameters = parameters.split_whitespace();
    let is_binary = parameters.any(|one| one.eq_ignore_ascii_case("BODY=BINARYMIME"));
    let letter = match &options.file {
        Some(file) => {
            let letter = read(file, config.smtp.max_message_size.value())?;
            Some(match is_binary {
                true => letter,
                false => as_sent(letter),
            })
        }
        None => None,
    };
    let case = case(&options, letter.as_deref());
    let store = Store::of(&config);
    let mut page = Page::new(options.json, store);
    let order = ExplainRequest::Explain(case);
    let receiver = Receiver::of(&config);
    let answered = receiver.ask_for_files("cannot explain", order).await?;
    let ExplainAnswer::ExplanationBegun = answered.answer;
    let mut fds = answered.fds.into_iter();
    let (Some(fd), None) = (fds.next(), fds.next()) else {
        return Err(unexpected(&ExplainAnswer::ExplanationBegun));
    };
    let (mut source, sink) = stream(fd)?.into_split();
    let sending = tokio::spawn(send(sink, letter.unwrap_or_default()));
    loop {
        match next(&mut source).await? {
            Told::Decision(decision) => page.decide(decision).await?,
            Told::Fact(fact) => page.fact(fact),
            Told::Outcome(outcome) => page.end(outcome),
            Told::End => break,
        }
    }
    // What was not read was not needed.
    sending.abort();
    page.close()
}

fn case(options: &ExplainOptions, letter: Option<&[u8]>) -> Case {
    let listener = options.listener.unwrap_or(match options.user {
        Some(_) => ListenerName::Submissions,
        None => ListenerName::Smtp,
    });
    let listener = match listener {
        ListenerName::Smtp => "smtp",
        ListenerName::Submission => "submission",
        ListenerName::Submissions => "submissions",
        ListenerName::Lmtp => "lmtp",
        ListenerName::LmtpLocal => "lmtp-local",
    };
    let sender = options.from.clone().or_else(|| options.user.clone());
    let announced = |letter: &[u8]| Announced {
        size: letter.len() as u64,
        eight_bit: !letter.is_ascii(),
        utf8_header: is_utf8(header(letter)),
        chunked: options.bdat,
    };
    Case {
        listener: listener.to_owned(),
        client: options.ip.to_string(),
        hello: options.helo.clone().unwrap_or_else(|| literal(options.ip)),
        sender: sender.unwrap_or_default(),
        recipients: options.to.clone(),
        mail_parameters: options.mail_parameters.clone().unwrap_or_default(),
        rcpt_parameters: options.rcpt_parameters.clone().unwrap_or_default(),
        user: options.user.clone(),
        message: letter.map(announced),
        tls: options.tls,
        filters: options.filters,
    }
}

fn header(letter: &[u8]) -> &[u8] {
    let end = letter.windows(4).position(|four| four == b"\r\n\r\n");
    letter.get(..end.unwrap_or(letter.len())).unwrap_or(letter)
}

/// RFC 6532: what is neither ASCII nor UTF-8 is nothing that can be announced.
fn is_utf8(header: &[u8]) -> bool {
    !header.is_ascii() && std::str::from_utf8(header).is_ok()
}

/// RFC 5321 §4.1.3.
fn literal(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => format!("[{v4}]"),
        IpAddr::V6(v6) => format!("[IPv6:{v6}]"),
    }
}

fn read(file: &Path, max: u64) -> Result<Vec<u8>, Error> {
    let failed = |error| Error::failed(format!("cannot read {}", file.display()), error);
    let mut bytes = Vec::new();
    let limit = max.saturating_add(BEYOND);
    let read = match file.to_str() {
        Some("-") => io::stdin().lock().take(limit).read_to_end(&mut bytes),
        _ => std::fs::File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    read.map_err(failed)?;
    Ok(bytes)
}

// A program that sends a file of this machine sends its lines as lines.
fn as_sent(bytes: Vec<u8>) -> Vec<u8> {
    let first = bytes.iter().position(|byte| *byte == b'\n');
    let is_of_here = first.is_some_and(|at| at == 0 || bytes.get(at - 1) != Some(&b'\r'));
    if !is_of_here {
        return bytes;
    }
    let mut sent = Vec::with_capacity(bytes.len() + bytes.len() / 32);
    for byte in bytes {
        if byte == b'\n' && sent.last() != Some(&b'\r') {
            sent.push(b'\r');
        }
        sent.push(byte);
    }
    sent
}

fn stream(fd: OwnedFd) -> Result<UnixStream, Error> {
    let stream = std::os::unix::net::UnixStream::from(fd);
    stream.set_nonblocking(true)?;
    Ok(UnixStream::from_std(stream)?)
}

async fn send(mut sink: OwnedWriteHalf, letter: Vec<u8>) -> io::Result<()> {
    sink.write_all(&letter).await?;
    sink.shutdown().await
}

async fn next(source: &mut OwnedReadHalf) -> Result<Told, Error> {
    let early = |_| {
        Error::Failed("smtpd ended the explanation early; its log may say why. Try again".into())
    };
    let length = source.read_u32_le().await.map_err(early)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(unexpected(&length));
    }
    let mut bytes = vec![0; length];
    source.read_exact(&mut bytes).await.map_err(early)?;
    frame::decode(&bytes).map_err(|error| unexpected(&error))
}

/// What is shown.
struct Page {
    json: bool,
    store: Store,
    decisions: Vec<Value>,
    outcomes: Vec<Value>,
    /// Recipients that it is not taken for.
    lost: usize,
}

impl Page {
    fn new(json: bool, store: Store) -> Self {
        Self {
            json,
            store,
            decisions: Vec::new(),
            outcomes: Vec::new(),
            lost: 0,
        }
    }

    async fn decide(&mut self, decision: Decision) -> Result<(), Error> {
        if self.json {
            self.decisions.push(json!({
                "stage": word(decision.stage), "said": decision.said, "code": decision.code, "reply": decision.reply,
                "recipient": decision.recipient, "facts": [],
            }));
        } else {
            if !decision.said.is_empty() {
                println!("> {}", decision.said);
            }
            let code = match decision.code {
                0 => String::new(),
                code => format!("{code} "),
            };
            let mut lines = decision.reply.lines();
            let first = lines.next().unwrap_or_default();
            println!("{}: {code}{first}", word(decision.stage));
            lines.for_each(|line| println!("    {line}"));
        }
        if let (Stage::Recipient, Some(address)) = (decision.stage, &decision.recipient) {
            self.follow(address, decision.code == 452).await?;
        }
        Ok(())
    }

    fn fact(&mut self, Fact { text, key }: Fact) {
        if self.json {
            if let Some(last) = self.decisions.last_mut()
                && let Some(facts) = last["facts"].as_array_mut()
            {
                facts.push(json!({"text": text, "key": key}));
            }
            return;
        }
        match key.as_str() {
            "" => println!("    - {text}"),
            key => println!("    - {text}  [{key}]"),
        }
    }

    fn end(&mut self, outcome: Outcome) {
        let Outcome {
            recipient,
            code,
            text,
        } = outcome;
        let is_taken = (200..300).contains(&code);
        self.lost += usize::from(!is_taken);
        if self.json {
            let row =
                json!({"recipient": recipient, "taken": is_taken, "code": code, "outcome": text});
            self.outcomes.push(row);
        } else {
            println!("{recipient}: {text}");
        }
    }

    fn close(self) -> Result<(), Error> {
        if self.json {
            println!(
                "{}",
                json!({"decisions": self.decisions, "recipients": self.outcomes})
            );
        }
        match self.lost {
            0 => Ok(()),
            1 => Err(Error::Findings(
                "the mail is not taken for a recipient".into(),
            )),
            lost => Err(Error::Findings(format!(
                "the mail is not taken for {lost} recipients"
            ))),
        }
    }

    // The steps from the address to whoever gets its mail, and what those users store.
    async fn follow(&mut self, address: &str, is_full: bool) -> Result<(), Error> {
        // What is no address leads nowhere; the reply says so.
        let (steps, _) = match trace::steps(&self.store, address).await {
            Ok(steps) => steps,
            Err(Error::Refused { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        for step in &steps {
            self.fact(Fact {
                text: trace::line(step),
                key: "rmailctl alias test".into(),
            });
        }
        let mut users: Vec<&String> = steps.iter().filter_map(user).collect();
        users.sort_unstable();
        users.dedup();
        for address in users {
            let request = StoreControlRequest::ShowUser {
                address: address.clone(),
            };
            match self
                .store
                .ask("cannot see what a user stores", request)
                .await
            {
                Ok(StoreControlAnswer::User(info)) => self.stored(&info, is_full).await?,
                // It went away a moment ago.
                Err(Error::Refused { .. }) => {}
                Ok(answer) => return Err(unexpected(&answer)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn stored(&mut self, user: &UserInfo, is_full: bool) -> Result<(), Error> {
        let text = quota::text(user.usage, user.limits).replace('\t', ", ");
        self.fact(Fact {
            text: format!("{} stores {text}", user.address),
            key: "rmailctl user quota".into(),
        });
        // There may be many of them to look through, so only where it matters.
        if !is_full {
            return Ok(());
        }
        let domain = user.address.rsplit_once('@');
        let domain = domain.map_or("", |(_, domain)| domain);
        let Some(domain) = self.domain(domain).await? else {
            return Ok(());
        };
        let text = quota::text(domain.usage, domain.limits).replace('\t', ", ");
        self.fact(Fact {
            text: format!("all users of {} store {text}", domain.name),
            key: "rmailctl domain quota".into(),
        });
        let Some(name) = domain.tenant else {
            return Ok(());
        };
        if let Some(tenant) = self.tenant(&name).await? {
            let text = quota::text(tenant.usage, tenant.limits).replace('\t', ", ");
            self.fact(Fact {
                text: format!("all domains of the tenant {name} store {text}"),
                key: "rmailctl tenant quota".into(),
            });
        }
        Ok(())
    }

    async fn domain(&self, name: &str) -> Result<Option<DomainInfo>, Error> {
        let mut after = None;
        loop {
            let request = StoreControlRequest::ListDomains { after };
            match self.store.ask("cannot list the domains", request).await? {
                StoreControlAnswer::Domains { domains, more } => {
                    after = domains.last().map(|domain| domain.name.clone());
                    let found = domains.into_iter().find(|domain| domain.name == name);
                    if found.is_some() || !more {
                        return Ok(found);
                    }
                }
                answer => return Err(unexpected(&answer)),
            }
        }
    }

    async fn tenant(&self, name: &str) -> Result<Option<TenantInfo>, Error> {
        let mut after = None;
        loop {
            let request = StoreControlRequest::ListTenants { after };
            match self.store.ask("cannot list the tenants", request).await? {
                StoreControlAnswer::Tenants { tenants, more } => {
                    after = tenants.last().map(|tenant| tenant.name.clone());
                    let found = tenants.into_iter().find(|tenant| tenant.name == name);
                    if found.is_some() || !more {
                        return Ok(found);
                    }
                }
                answer => return Err(unexpected(&answer)),
            }
        }
    }
}

fn user(step: &TraceStep) -> Option<&String> {
    match &step.found {
        Found::User(address) => Some(address),
        Found::Alias { .. }
        | Found::Role(_)
        | Found::Rewritten(_)
        | Found::Elsewhere
        | Found::Backup
        | Found::Loop
        | Found::Nobody
        | Found::NoAddress
        | Found::TooFar => None,
    }
}

const fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Connection => "connection",
        Stage::Hello => "hello",
        Stage::Login => "login",
        Stage::Sender => "sender",
        Stage::Recipient => "recipient",
        Stage::Message => "message",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_file_of_this_machine_are_sent_as_lines() {
        for (file, sent) in [
            ("a: b\n\nx\n", "a: b\r\n\r\nx\r\n"),
            ("\nx\r\ny\n", "\r\nx\r\ny\r\n"),
            // Who wrote CRLF once means what stands there.
            ("a: b\r\n\nx", "a: b\r\n\nx"),
            ("a\rb", "a\rb"),
            ("", ""),
        ] {
            let bytes = as_sent(file.as_bytes().to_vec());
            assert_eq!(String::from_utf8(bytes).unwrap(), sent);
        }
    }

    #[test]
    fn no_more_of_a_file_is_read_than_shows_that_it_is_too_large() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![b'x'; 100_000]).unwrap();
        assert_eq!(read(file.path(), 50_000).unwrap().len(), 100_000);
        assert_eq!(read(file.path(), 10).unwrap().len(), 10 + 64 * 1024);
    }

    #[tokio::test]
    async fn a_piece_that_is_longer_than_a_frame_is_not_waited_for() {
        let (mut smtpd, ours) = UnixStream::pair().unwrap();
        let (mut source, _sink) = ours.into_split();
        let length = u32::try_from(MAX_FRAME + 1).unwrap();
        smtpd.write_all(&length.to_le_bytes()).await.unwrap();
        drop(smtpd);
        let error = next(&mut source).await.unwrap_err().to_string();
        assert!(error.contains("unexpected answer"), "{error}");
    }

    #[test]
    fn only_utf8_in_the_header_is_announced_as_such() {
        for (letter, is) in [
            (&b"Subject: \xc3\xa4\r\n\r\nx"[..], true),
            (b"Subject: \xe4\r\n\r\nx", false),
            (b"Subject: a\r\n\r\n\xc3\xa4", false),
            (b"Subject: \xc3\xa4", true),
        ] {
            assert_eq!(is_utf8(header(letter)), is, "{letter:?}");
        }
    }

    #[test]
    fn a_client_without_a_name_is_called_by_its_address() {
        for (address, name) in [
            ("192.0.2.1", "[192.0.2.1]"),
            ("::ffff:192.0.2.1", "[192.0.2.1]"),
            ("2001:db8::1", "[IPv6:2001:db8::1]"),
        ] {
            assert_eq!(literal(address.parse().unwrap()), name);
        }
    }
}
