//! The round trip: one message to a neighbour, who watches her mailbox, and to the world outside.

use std::time::{Duration, Instant};

use ipc::control::{QueueControlAnswer, QueueControlRequest};
use tokio::time::{sleep, timeout};

use super::conversation::Conversation;
use super::home::Home;
use super::outside::Outside;
use super::{Progress, User, dns};
use crate::operator::{Queue, unexpected};
use crate::{Error, secret};

/// A push that takes longer is no push.
const WITHIN_THE_SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

/// Refusals of SMTP (RFC 5321 §4.2.1).
const REFUSALS: [&str; 2] = ["4", "5"];

pub(super) async fn run(
    progress: &Progress,
    home: &Home,
    outside: &Outside,
    users: &[User],
) -> Result<(), Error> {
    let (Some(sender), Some(receiver)) = (users.first(), users.get(1).or(users.first())) else {
        return Err(Error::Usage("the round trip needs a user".into()));
    };
    let token = secret::made_up()?;
    let mut reader = watch(home, receiver).await?;
    progress.step(format_args!(
        "{} logged in over IMAP with TLS, selected INBOX and waits in IDLE",
        receiver.address
    ));

    let friend = format!("friend@{}", dns::DOMAIN);
    let sent = submit(home, sender, &[&receiver.address, &friend], &token).await?;
    progress.step(format_args!(
        "{} sent a mail to {} and {friend} through submission with TLS",
        sender.address, receiver.address
    ));

    let arrival = arrival(&mut reader, sent).await?;
    progress.step(format_args!(
        "IDLE told {} of it {:.1} ms after the 250",
        receiver.address,
        arrival.as_secs_f64() * 1000.0
    ));
    fetch(&mut reader, &token).await?;
    progress.step(format_args!("{} fetched it, unchanged", receiver.address));

    if home.config.relay.smarthost.is_some() {
        await_empty_queue(home).await?;
        progress.step("the smarthost took the mail to the outside");
    } else {
        let message = timeout(PATIENCE, outside.message()).await;
        let message = message
            .ok()
            .flatten()
            .ok_or_else(|| Error::Failed(format!("no mail arrived at {}", dns::DOMAIN)))?;
        if !String::from_utf8_lossy(&message).contains(&token) {
            return Err(Error::Failed(
                "another mail than the one sent arrived outside".into(),
            ));
        }
        progress.step(format_args!(
            "the server of {} received it, found by its MX record",
            dns::DOMAIN
        ));
    }
    Ok(())
}

/// Logs in and idles.
async fn watch(home: &Home, user: &User) -> Result<Conversation, Error> {
    let mut imap = Conversation::open("imapd", home.ports.0[4], &home.certificate).await?;
    imap.until("* OK", &["* BYE"]).await?;
    imap.say(&format!(
        "a LOGIN {} {}",
        quoted(&user.address),
        quoted(&user.password)
    ))
    .await?;
    imap.until("a OK", &["a NO", "a BAD"]).await?;
    imap.say("b SELECT INBOX").await?;
    imap.until("b OK", &["b NO", "b BAD"]).await?;
    imap.say("c IDLE").await?;
    imap.until("+", &["c NO", "c BAD"]).await?;
    Ok(imap)
}

/// RFC 9051 §4.3: a quoted string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Sends the message; when the 250 came.
async fn submit(home: &Home, from: &User, to: &[&str], token: &str) -> Result<Instant, Error> {
    let mut smtp = Conversation::open("smtpd", home.ports.0[2], &home.certificate).await?;
    smtp.until("220 ", &REFUSALS).await?;
    smtp.say("EHLO localhost").await?;
    smtp.until("250 ", &REFUSALS).await?;
    // RFC 4616: empty authorization identity, user, password.
    let plain = mail::encode::base64(format!("\0{}\0{}", from.address, from.password).as_bytes());
    smtp.say(&format!("AUTH PLAIN {plain}")).await?;
    smtp.until("235 ", &REFUSALS).await?;
    smtp.say(&format!("MAIL FROM:<{}>", from.address)).await?;
    smtp.until("250 ", &REFUSALS).await?;
    for address in to {
        smtp.say(&format!("RCPT TO:<{address}>")).await?;
        smtp.until("250 ", &REFUSALS).await?;
    }
    smtp.say("DATA").await?;
    smtp.until("354 ", &REFUSALS).await?;
    let text = format!(
        "From: {0}\r\nTo: {1}\r\nSubject: Hello from rmail\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\nThis mail went all the way.\r\n{token}\r\n.",
        from.address,
        to.join(", ")
    );
    smtp.say(&text).await?;
    smtp.until("250 ", &REFUSALS).await?;
    let sent = Instant::now();
    smtp.say("QUIT").await?;
    smtp.until("221", &REFUSALS).await?;
    Ok(sent)
}

/// How long after the 250 the waiting client was told; it may have been told before the sender was.
async fn arrival(imap: &mut Conversation, sent: Instant) -> Result<Duration, Error> {
    loop {
        let line = imap.line().await?;
        if line.starts_with("* ") && line.ends_with(" EXISTS") {
            break;
        }
        if line.starts_with("* BYE") {
            return Err(Error::Failed(format!("imapd said: {line}")));
        }
    }
    let took = sent.elapsed();
    if took > WITHIN_THE_SECOND {
        return Err(Error::Failed(format!(
            "IDLE took {:.1} s to tell of the mail",
            took.as_secs_f64()
        )));
    }
    imap.say("DONE").await?;
    imap.until("c OK", &["c NO", "c BAD"]).await?;
    Ok(took)
}

async fn fetch(imap: &mut Conversation, token: &str) -> Result<(), Error> {
    imap.say("d FETCH * BODY.PEEK[]").await?;
    let lines = imap.until("d OK", &["d NO", "d BAD"]).await?;
    if lines.iter().any(|line| line == token) {
        Ok(())
    } else {
        Err(Error::Failed(
            "the newest mail in INBOX is not the one that was sent".into(),
        ))
    }
}

async fn await_empty_queue(home: &Home) -> Result<(), Error> {
    let queue = Queue::of(&home.config);
    let end = Instant::now() + PATIENCE;
    loop {
        match queue
            .ask("cannot watch the queue", QueueControlRequest::ShowStatus)
            .await?
        {
            QueueControlAnswer::Status { queued: 0, .. } => return Ok(()),
            QueueControlAnswer::Status { .. } if Instant::now() < end => {
                sleep(Duration::from_millis(50)).await
            }
            QueueControlAnswer::Status { queued, .. } => {
                return Err(Error::Failed(format!(
                    "{queued} messages are still in the queue: the smarthost does not take them"
                )));
            }
            answer => return Err(unexpected(&answer)),
        }
    }
}
