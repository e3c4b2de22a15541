//! The client of an explanation: it says to a session what a real one would say, and tells what it hears.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use daemon::Stop;
use daemon::limits::Crowded;
use daemon::port::{Begins, Client, Protocol};
use ipc::delivery::Destination;
use ipc::explain::{Announced, Case, Fact, Stage};
use mail::encode::base64;
use smtp::auth::Mechanism;
use smtp::server::Role;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use super::letter::Letter;
use super::notes::{Granted, Kept, Queued};
use super::tale::{Heard, Tale};
use super::{Listener, facts};
use crate::guard::{Kind, Pass};
use crate::session::converse;
use crate::words;

/// Octets on the way between the client and the session.
const PIPE: usize = 64 * 1024;
/// Read at once of a message.
const PIECE: usize = 16 * 1024;

/// Plays a session of this client at this listener, and tells it over `stream`, from which the message comes.
///
/// # Errors
/// The operator is gone, or something broke.
pub(super) async fn explain(
    listener: &Listener,
    case: &Case,
    client: IpAddr,
    session: u64,
    stream: UnixStream,
    stop: &Stop,
) -> io::Result<()> {
    let (letter, sink) = stream.into_split();
    let mut tale = Tale::new(sink, case.filters);
    let pass = match enter(listener, client, &tale) {
        Ok(pass) => pass,
        Err(heard) => {
            tale.decide(Stage::Connection, "", &heard, None).await?;
            for recipient in &case.recipients {
                let text = refused(&heard);
                tale.end_with(recipient, heard.code, &text).await?;
            }
            return tale.end().await;
        }
    };
    let port = &listener.port;
    let house = &port.house;
    let ask = Arc::new(house.ask.rehearsing(&tale.notes));
    let judge = house
        .judge
        .asking(Arc::new(house.ask.rehearsing(&tale.judged)));
    let who = Client {
        address: client,
        session,
    };
    let mut desk = port.desk(ask, Arc::new(judge), pass, who);
    // RFC 8314: where logins are, TLS is. Filters are told of a cipher, too.
    let is_secured = case.tls || port.config.role == Role::Submission;
    let tls = is_secured.then(|| "TLSv1.3 TLS_AES_256_GCM_SHA384".to_owned());
    // Whoever is supposed to log in does so by one of those that are offered.
    let server = port.greet(client, tls).with_mechanism(Mechanism::Plain);
    let (ours, mut theirs) = duplex(PIPE);
    let session = converse(&mut theirs, server, &mut desk, stop);
    // The log is about mail that came.
    let session = session.with_subscriber(NoSubscriber::default());
    let play = Play {
        listener,
        case,
        client: BufReader::new(ours),
        letter,
        tale,
    };
    let (_, played) = tokio::join!(session, play.run());
    played
}

/// What comes before a session.
fn enter(listener: &Listener, client: IpAddr, tale: &Tale) -> Result<Pass, Heard> {
    let port = &listener.port;
    let house = &port.house;
    let note = |key: &str, text: String| {
        let key = key.to_owned();
        tale.notes.add(Fact { text, key });
    };
    // Nothing can be said in clear text where TLS is due.
    let say = |heard: Heard| match port.begins {
        Begins::Clear => heard,
        Begins::Tls => Heard::nothing(&format!(
            "closed before TLS, without a word; it means: {}",
            heard.text
        )),
    };
    if !listener.is_on {
        note(listener.switch, "the listener is switched off".to_owned());
        return Err(Heard::nothing("nobody listens"));
    }
    if port.is_proxy(client) {
        let text = "a listed proxy: it has to begin with a PROXY header, and its clients are judged, not itself";
        note("smtp.proxies, or that of the listener", text.to_owned());
    }
    let (inside, room) = house.door.filled();
    if room != 0 {
        note(
            "smtp.max_connections",
            format!("connections in all: {inside} of {room}"),
        );
    }
    if room != 0 && inside >= room {
        let bytes = port.regret(Crowded::Total);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end().get(4..).unwrap_or_default().to_owned();
        return Err(say(Heard { code: 421, text }));
    }
    if !port.is_local && !port.serves(client) {
        note("smtp.lmtp_clients", format!("{client} is not listed"));
        return Err(say(Heard::of(&port.not_served())));
    }
    let pass = match port.is_local {
        true => house.guard.look_trusting(client),
        false => port.look(client).map_err(|exceeded| {
            note(exceeded.key(), exceeded.to_string());
            say(Heard::of(&words::too_many_connections(&house.hostname)))
        })?,
    };
    match pass.is_exempt() {
        true => note(
            "smtp.limits.exempt; smtp.xclient",
            format!("no limit on addresses applies to {client} here"),
        ),
        false => {
            for count in house.guard.connections(client) {
                note(count.key, facts::counted(Kind::Connection, &count));
            }
        }
    }
    if !port.greeting_delay.is_zero() && !pass.is_exempt() {
        let delay = port.greeting_delay.as_millis();
        let text = format!("greeted after {delay} ms; who talks before is refused");
        note("smtp.limits.greeting_delay_ms", text);
    }
    Ok(pass)
}

/// How a recipient stands.
#[derive(Debug)]
enum Fate {
    Refused(Heard),
    Granted(Option<Granted>),
}

struct Play<'a> {
    listener: &'a Listener,
    case: &'a Case,
    client: BufReader<DuplexStream>,
    letter: OwnedReadHalf,
    tale: Tale,
}

impl Play<'_> {
    async fn run(mut self) -> io::Result<()> {
        let mut fates = match self.begin().await? {
            Ok(()) => self.name_recipients().await?,
            Err(heard) => {
                let all = self.case.recipients.iter();
                all.map(|_| Fate::Refused(heard.clone())).collect()
            }
        };
        if let Some(announced) = self.case.message
            && fates.iter().any(|fate| matches!(fate, Fate::Granted(_)))
        {
            self.send(announced, &mut fates).await?;
        }
        let kept = self.tale.notes.kept();
        for (recipient, fate) in self.case.recipients.iter().zip(&fates) {
            let (code, text) = match fate {
                Fate::Refused(heard) => (heard.code, refused(heard)),
                Fate::Granted(granted) => (250, taken(granted.as_ref(), &kept, self.case)),
            };
            self.tale.end_with(recipient, code, &text).await?;
        }
        self.tale.end().await
    }

    // Up to MAIL. The inner error is the reply after which no client goes on.
    async fn begin(&mut self) -> io::Result<Result<(), Heard>> {
        let greeting = self.hear().await?;
        self.tale
            .decide(Stage::Connection, "", &greeting, None)
            .await?;
        if !greeting.is_good() {
            return Ok(Err(greeting));
        }
        let hello = match self.listener.port.config.role {
            Role::Exchange | Role::Submission => "EHLO",
            Role::Delivery => "LHLO",
        };
        let hello = format!("{hello} {}", self.case.hello);
        if let Err(heard) = self.say(Stage::Hello, &hello, &hello).await? {
            return Ok(Err(heard));
        }
        if let Some(user) = &self.case.user {
            // RFC 4616; the password is supposed to be right.
            let token = base64(format!("\0{user}\0-").as_bytes());
            let (login, shown) = (
                format!("AUTH PLAIN {token}"),
                format!("AUTH as {user}, with the right password, certificate or token"),
            );
            if let Err(heard) = self.say(Stage::Login, &login, &shown).await? {
                return Ok(Err(heard));
            }
        }
        let mail = self.mail();
        self.say(Stage::Sender, &mail, &mail).await
    }

    // What a client says that reads what EHLO offers.
    fn mail(&self) -> String {
        let mut mail = format!("MAIL FROM:<{}>", self.case.sender);
        let mut addresses = self.case.recipients.iter().chain([&self.case.sender]);
        let is_utf8 = !addresses.all(|address| address.is_ascii());
        let message = self.case.message;
        let follows = [
            message.map(|message| format!("SIZE={}", message.size)),
            message
                .filter(|message| message.eight_bit)
                .map(|_| "BODY=8BITMIME".to_owned()),
            (is_utf8 || message.is_some_and(|message| message.utf8_header))
                .then(|| "SMTPUTF8".to_owned()),
        ];
        let said: Vec<&str> = self.case.mail_parameters.split_whitespace().collect();
        let keyword = |text: &str| text.split('=').next().unwrap_or_default().to_uppercase();
        let is_said = |one: &String| said.iter().any(|other| keyword(other) == keyword(one));
        let follows = follows.into_iter().flatten().filter(|one| !is_said(one));
        let follows: Vec<String> = follows.collect();
        let parameters = follows.iter().map(String::as_str).chain(said);
        for parameter in parameters {
            mail.push(' ');
            mail.push_str(parameter);
        }
        mail
    }

    async fn name_recipients(&mut self) -> io::Result<Vec<Fate>> {
        let mut fates: Vec<Fate> = Vec::new();
        let case = self.case;
        for recipient in &case.recipients {
            // Who was hung up on says nothing more.
            if let Some(Fate::Refused(last)) = fates.last()
                && matches!(last.code, 0 | 421)
            {
                let last = last.clone();
                fates.push(Fate::Refused(last));
                continue;
            }
            let said = format!("RCPT TO:<{recipient}> {}", case.rcpt_parameters);
            let said = said.trim_end();
            let heard = self.command(said).await?;
            let granted = self.tale.notes.take_granted();
            let address = granted.as_ref().map(|granted| granted.address.clone());
            let address = address.unwrap_or_else(|| recipient.clone());
            self.tale
                .decide(Stage::Recipient, said, &heard, Some(address))
                .await?;
            fates.push(match heard.is_good() {
                true => Fate::Granted(granted),
                false => Fate::Refused(heard),
            });
        }
        Ok(fates)
    }

    async fn send(&mut self, announced: Announced, fates: &mut [Fate]) -> io::Result<()> {
        let Announced { size, chunked, .. } = announced;
        let said = match chunked {
            true => format!("BDAT {size} LAST"),
            false => format!("DATA, {size} octets"),
        };
        if chunked {
            // RFC 3030 §2: the octets follow at once.
            self.tell(&said).await;
        } else {
            let open = self.command("DATA").await?;
            if !open.is_good() {
                self.tale
                    .decide(Stage::Message, "DATA", &open, None)
                    .await?;
                fates.iter_mut().for_each(|fate| fate.refuse(&open));
                return Ok(());
            }
        }
        self.carry(announced).await?;
        // RFC 2033 §4.2: with LMTP each recipient that was taken has a reply.
        let each = self.listener.port.config.role == Role::Delivery;
        let mut last = None;
        for fate in fates {
            let Fate::Granted(granted) = &*fate else {
                continue;
            };
            let address = granted.as_ref().map(|granted| granted.address.clone());
            let heard = match last.take().filter(|_| !each) {
                Some(heard) => heard,
                None => {
                    let heard = self.hear().await?;
                    let about = address.filter(|_| each);
                    self.tale
                        .decide(Stage::Message, &said, &heard, about)
                        .await?;
                    heard
                }
            };
            if !heard.is_good() {
                fate.refuse(&heard);
            }
            last = Some(heard);
        }
        Ok(())
    }

    // Carries the message over. The session may hang up in the middle of it; what it said is still to be heard.
    async fn carry(&mut self, Announced { size, chunked, .. }: Announced) -> io::Result<()> {
        let mut letter = Letter::new(chunked);
        let mut piece = vec![0; PIECE];
        let mut is_heard = true;
        // What is beyond what was announced would be commands.
        let most = if chunked { size } else { u64::MAX };
        let mut source = (&mut self.letter).take(most);
        loop {
            let read = source.read(&mut piece).await?;
            if read == 0 {
                break;
            }
            let wire = letter.piece(piece.get(..read).unwrap_or_default());
            is_heard = is_heard && self.client.get_mut().write_all(&wire).await.is_ok();
            if !is_heard {
                break;
            }
        }
        if chunked && is_heard && source.limit() > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if is_heard {
            // Whether it is taken is in the reply.
            let _ = self.client.get_mut().write_all(letter.end()).await;
        }
        for (text, key) in letter.figures(&self.listener.port.config) {
            let key = key.to_owned();
            self.tale.notes.add(Fact { text, key });
        }
        Ok(())
    }

    async fn say(
        &mut self,
        stage: Stage,
        line: &str,
        shown: &str,
    ) -> io::Result<Result<(), Heard>> {
        let heard = self.command(line).await?;
        self.tale.decide(stage, shown, &heard, None).await?;
        Ok(match heard.is_good() {
            true => Ok(()),
            false => Err(heard),
        })
    }

    async fn command(&mut self, line: &str) -> io::Result<Heard> {
        self.tell(line).await;
        self.hear().await
    }

    async fn tell(&mut self, line: &str) {
        let line = format!("{line}\r\n");
        // Who was hung up on hears that next.
        let _ = self.client.get_mut().write_all(line.as_bytes()).await;
    }

    async fn hear(&mut self) -> io::Result<Heard> {
        let mut lines: Vec<String> = Vec::new();
        loop {
            let mut line = String::new();
            // They are our own session's, so they end.
            if self.client.read_line(&mut line).await? == 0 {
                return Ok(Heard::nothing("the connection ended without a reply"));
            }
            let text = line.get(4..).unwrap_or_default().trim_end();
            lines.push(text.to_owned());
            if line.as_bytes().get(3) == Some(&b' ') {
                let code = line.get(..3).and_then(|code| code.parse().ok());
                return Ok(Heard {
                    code: code.unwrap_or(0),
                    text: lines.join("\n"),
                });
            }
        }
    }
}

impl Fate {
    fn refuse(&mut self, heard: &Heard) {
        if let Self::Granted(_) = self {
            *self = Self::Refused(heard.clone());
        }
    }
}

fn refused(heard: &Heard) -> String {
    let text = heard.text.replace('\n', " ");
    match heard.code {
        0 => format!("not taken: {text}"),
        code @ 400..500 => format!("not taken now: {code} {text}"),
        code => format!("refused: {code} {text}"),
    }
}

fn taken(granted: Option<&Granted>, kept: &Kept, case: &Case) -> String {
    let (here, elsewhere) = granted.map_or((&[][..], &[][..]), |granted| {
        (granted.here.as_slice(), granted.elsewhere.as_slice())
    });
    if case.message.is_none() {
        let ways = facts::ways(here, elsewhere);
        return format!("taken so far, {ways}; what the message says may change that");
    }
    let mut ways = Vec::new();
    for (mailbox, destination) in [
        ("INBOX", Destination::Inbox),
        ("the junk mailbox", Destination::Junk),
    ] {
        let is_there = |one: &&String| kept.here.get(*one) == Some(&destination);
        let some: Vec<&str> = here.iter().filter(is_there).map(String::as_str).collect();
        if !some.is_empty() {
            ways.push(format!("into {mailbox} of {}", some.join(", ")));
        }
    }
    let held = here.iter().chain(elsewhere);
    let held = held.filter_map(|one| kept.held.get_key_value(one));
    ways.extend(held.map(|(one, reason)| {
        format!("into quarantine ({reason}) until rmailctl queue release, for {one}")
    }));
    let later = here.iter().filter(|one| kept.later.contains(*one));
    let later: Vec<&str> = later.map(String::as_str).collect();
    if !later.is_empty() {
        ways.push(format!(
            "held in the queue until its time has come, then to {} here",
            later.join(", ")
        ));
    }
    let is_free = |one: &&String| !kept.held.contains_key(*one);
    let free: Vec<&str> = elsewhere
        .iter()
        .filter(is_free)
        .map(String::as_str)
        .collect();
    if let (Some(queued), false) = (&kept.elsewhere, free.is_empty()) {
        let Queued {
            reverse_path,
            hold,
            parameters,
        } = queued;
        let mut way = format!("out to {} from <{reverse_path}>", free.join(", "));
        if !parameters.is_empty() {
            way.push_str(&format!(" with {parameters}"));
        }
        for one in free {
            if let Some(parameters) = kept.parameters.get(one) {
                way.push_str(&format!(", for {one} with {parameters}"));
            }
        }
        ways.push(match hold {
            None => way,
            Some(reason) => format!("held in the queue ({reason}), then {way}"),
        });
    }
    let told = granted.and_then(|granted| kept.told.get(&granted.address));
    ways.extend(told.map(|what| format!("the sender is told {what}")));
    format!("taken: {}", ways.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_goes_out_afterwards() {
        let granted = Granted {
            address: "list@example.org".into(),
            here: vec!["bob@example.org".into()],
            elsewhere: vec!["carol@far.example".into(), "dave@far.example".into()],
        };
        let mut kept = Kept {
            elsewhere: Some(Queued {
                reverse_path: "alice@example.org".into(),
                hold: Some("over budget".into()),
                parameters: "HOLDFOR=60".into(),
            }),
            ..Kept::default()
        };
        kept.later.insert("bob@example.org".into());
        kept.parameters
            .insert("dave@far.example".into(), "NOTIFY=NEVER".into());
        let case = Case {
            listener: String::new(),
            client: String::new(),
            hello: String::new(),
            sender: String::new(),
            recipients: Vec::new(),
            mail_parameters: String::new(),
            rcpt_parameters: String::new(),
            user: None,
            message: Some(Announced {
                size: 1,
                eight_bit: false,
                utf8_header: false,
                chunked: false,
            }),
            tls: false,
            filters: false,
        };
        assert_eq!(
            taken(Some(&granted), &kept, &case),
            "taken: held in the queue until its time has come, then to bob@example.org here; held in the queue (over budget), then \
             out to carol@far.example, dave@far.example from <alice@example.org> with HOLDFOR=60, for dave@far.example with NOTIFY=NEVER"
        );
    }
}
