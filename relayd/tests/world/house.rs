//! The program itself, with its sockets, as rmaild would start it; it can be killed and started again.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test"
)]

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use daemon::channel::{CallError, Client};
use ipc::Context;
use ipc::control::{QueueControlAnswer, QueueControlEdge, QueueControlRequest, QueuedMessage};
use ipc::delivery::MessageHandle;
use ipc::queue::{Envelope, Quarantine, QueueAnswer, QueueEdge, QueueRequest, Recipient, Standing};
use sys::packet::PacketListener;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::keyd::Keyd;

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct House {
    pub(crate) home: tempfile::TempDir,
    pub(crate) keyd: Keyd,
    listeners: [OwnedFd; 2],
    relayd: Option<Child>,
    /// A file with the only root certificate it knows, PEM.
    root: Option<PathBuf>,
    pub(crate) smtpd: Client<QueueEdge>,
    pub(crate) ctl: Client<QueueControlEdge>,
}

impl House {
    /// relayd with this `relay` section, which has no braces. It keeps no connections unless that says so.
    pub(crate) fn build(relay: &str) -> Self {
        let keeps = match relay.contains("connection_reuse_seconds") {
            true => "",
            false => "\"connection_reuse_seconds\": 0, ",
        };
        let home = tempfile::tempdir().unwrap();
        let root = home.path().display().to_string();
        let config = format!(
            "{{\"version\": 1, \"hostname\": \"relay.example.test\", \"mail_root\": \"{root}\", \"run_dir\": \"{root}\",\
             \"smtp\": {{\"max_message_size\": 65536}},\
             \"tls\": {{\"cert_file\": \"{root}/c\", \"key_file\": \"{root}/k\"}}, \"relay\": {{{keeps}{relay}}}}}"
        );
        std::fs::write(home.path().join("config.json"), config).unwrap();
        let socket = |asker: &str| home.path().join(format!("relayd-{asker}.sock"));
        let listen = |asker| {
            PacketListener::bind(&socket(asker))
                .unwrap()
                .as_fd()
                .try_clone_to_owned()
                .unwrap()
        };
        let listeners = [listen("smtpd"), listen("ctl")];
        let (smtpd, ctl) = (Client::new(socket("smtpd")), Client::new(socket("ctl")));
        let keyd = Keyd::start(&home.path().join("keyd-relayd.sock"));
        let mut house = Self {
            home,
            keyd,
            listeners,
            relayd: None,
            root: None,
            smtpd,
            ctl,
        };
        house.start();
        house
    }

    /// From its next start on it knows this root certificate and no other.
    pub(crate) fn trust(&mut self, pem: &str) {
        let file = self.home.path().join("root.pem");
        std::fs::write(&file, pem).unwrap();
        self.root = Some(file);
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn start(&mut self) {
        self.start_after("");
    }

    /// Started by another program, which must become it; the shell does `first` before.
    pub(crate) fn start_by(&mut self, program: &[&str], first: &str) {
        self.spawn(program, first);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.relayd.as_ref().unwrap().id()
    }

    /// As on a disk where no file can grow beyond `octets`, until [`House::make_room`].
    pub(crate) fn start_without_room(&mut self, octets: u64) {
        self.start_after(&format!(
            "trap '' XFSZ; prlimit --pid $$ --fsize={octets}:unlimited || exit; "
        ));
    }

    pub(crate) fn make_room(&self) {
        let pid = self.relayd.as_ref().unwrap().id().to_string();
        let lifted = Command::new("prlimit")
            .args(["--pid", &pid, "--fsize=unlimited"])
            .status()
            .unwrap();
        assert!(lifted.success());
    }

    fn start_after(&mut self, first: &str) {
        self.spawn(&["env"], first);
    }

    fn spawn(&mut self, program: &[&str], first: &str) {
        let [smtpd, ctl] = &self.listeners;
        let script = "exec 3<&0 4<&1 </dev/null >/dev/null; \
                      LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=smtpd:ctl exec \"$0\" \"$1\"";
        let roots = self.root.iter().map(|file| ("SSL_CERT_FILE", file));
        let child = Command::new(program[0])
            .args(&program[1..])
            .envs(roots)
            .args([
                "/bin/sh",
                "-c",
                &format!("{first}{script}"),
                env!("CARGO_BIN_EXE_relayd"),
            ])
            .arg(self.home.path().join("config.json"))
            .stdin(Stdio::from(smtpd.try_clone().unwrap()))
            .stdout(Stdio::from(ctl.try_clone().unwrap()))
            .spawn()
            .unwrap();
        self.relayd = Some(child);
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.relayd.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM; returns whether it ended well.
    pub(crate) fn terminate(&mut self) -> bool {
        let mut child = self.relayd.take().unwrap();
        sys::process::terminate(child.id()).unwrap();
        child.wait().unwrap().success()
    }

    /// Brings a message as smtpd does; returns its queue id.
    pub(crate) async fn submit(
        &self,
        from: &str,
        to: &[&str],
        body: &[u8],
    ) -> Result<String, CallError> {
        self.submit_for(None, from, to, body).await
    }

    /// The same for an account.
    pub(crate) async fn submit_for(
        &self,
        account: Option<&str>,
        from: &str,
        to: &[&str],
        body: &[u8],
    ) -> Result<String, CallError> {
        let envelope = Envelope {
            account: account.map(str::to_owned),
            ..envelope(from, "")
        };
        self.submit_as(envelope, to.iter().map(|one| waiting(one)).collect(), body)
            .await
    }

    /// The same, with all that there is to say.
    pub(crate) async fn submit_as(
        &self,
        envelope: Envelope,
        recipients: Vec<Recipient>,
        body: &[u8],
    ) -> Result<String, CallError> {
        bring(&self.smtpd, envelope, recipients, body, None).await
    }

    /// The same, for the quarantine.
    pub(crate) async fn quarantine(
        &self,
        envelope: Envelope,
        recipients: Vec<Recipient>,
        body: &[u8],
        why: Quarantine,
    ) -> Result<String, CallError> {
        bring(&self.smtpd, envelope, recipients, body, Some(why)).await
    }

    /// Commits a message with a head in front.
    pub(crate) async fn commit_behind(
        &self,
        link: &daemon::channel::Link<QueueEdge>,
        message: MessageHandle,
        size: u64,
        head: Vec<u8>,
    ) -> Result<String, CallError> {
        commit_as(link, message, size, head, None).await
    }

    pub(crate) async fn commit(
        &self,
        link: &daemon::channel::Link<QueueEdge>,
        message: MessageHandle,
        size: u64,
    ) -> Result<String, CallError> {
        self.commit_behind(link, message, size, Vec::new()).await
    }

    pub(crate) async fn order(
        &self,
        request: QueueControlRequest,
    ) -> Result<QueueControlAnswer, CallError> {
        Ok(self
            .ctl
            .ask(Context::default(), PATIENCE, request)
            .await?
            .answer)
    }

    /// All pages of the queue.
    pub(crate) async fn queue(&self) -> Vec<QueuedMessage> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            match self
                .order(QueueControlRequest::ListQueue {
                    after: after.clone(),
                })
                .await
                .unwrap()
            {
                QueueControlAnswer::Queue { messages, more } => {
                    all.extend(messages);
                    after = all
                        .last()
                        .map(|message: &QueuedMessage| message.queue_id.clone());
                    if !more {
                        return all;
                    }
                }
                answer => panic!("{answer:?}"),
            }
        }
    }

    /// Waits until the queue satisfies `wish`.
    pub(crate) async fn queue_until(
        &self,
        wish: impl Fn(&[QueuedMessage]) -> bool,
    ) -> Vec<QueuedMessage> {
        for _ in 0..400 {
            let queue = self.queue().await;
            if wish(&queue) {
                return queue;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!(
            "the queue never became what was wished: {:?}",
            self.queue().await
        );
    }

    /// Files in the queue directory and those below it, without those that are of all messages.
    pub(crate) fn files(&self) -> Vec<String> {
        let queue = self.home.path().join("queue");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&queue).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                let files = std::fs::read_dir(entry.path()).unwrap();
                let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
                names.extend(files.map(|file| format!("{name}/{file}")));
            } else if !is_of_all(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The journal of a message.
    pub(crate) fn journal(&self, queue_id: &str) -> PathBuf {
        let id = relayd::queue::QueueId::parse(queue_id).unwrap();
        self.home.path().join("queue").join(id.journal_name())
    }

    /// Has everything in the files of the messages and nothing in the log, of a house that does not run.
    pub(crate) fn empty_log(&self) {
        let queue = relayd::queue::Queue::open(
            &self.home.path().join("queue"),
            (&daemon::config::History::default()).into(),
        )
        .unwrap();
        queue.close().unwrap();
    }
}

fn is_of_all(name: &str) -> bool {
    name == ".lock" || name.starts_with(".log-") || name.starts_with(".history-")
}

/// Brings a message over a connection of whoever asks.
pub(crate) async fn bring(
    smtpd: &Client<QueueEdge>,
    envelope: Envelope,
    recipients: Vec<Recipient>,
    body: &[u8],
    quarantine: Option<Quarantine>,
) -> Result<String, CallError> {
    let link = smtpd.pinned(PATIENCE).await?;
    let call = |request| link.call(Context::default(), PATIENCE, request);
    let opened = call(QueueRequest::OpenMessage(envelope)).await?;
    let QueueAnswer::MessageOpened(message) = opened.answer else {
        panic!("{:?}", opened.answer)
    };
    let stream = std::os::unix::net::UnixStream::from(opened.fds.into_iter().next().unwrap());
    stream.set_nonblocking(true).unwrap();
    let mut stream = UnixStream::from_std(stream).unwrap();
    call(QueueRequest::AddRecipients {
        message,
        recipients,
    })
    .await?;
    // A message that is too large is not read to its end.
    let _ = stream.write_all(body).await;
    let _ = stream.shutdown().await;
    let size = body.len() as u64;
    commit_as(&link, message, size, Vec::new(), quarantine).await
}

async fn commit_as(
    link: &daemon::channel::Link<QueueEdge>,
    message: MessageHandle,
    size: u64,
    head: Vec<u8>,
    quarantine: Option<Quarantine>,
) -> Result<String, CallError> {
    let request = QueueRequest::CommitMessage {
        message,
        size,
        head,
        quarantine,
    };
    match link
        .call(Context::default(), PATIENCE, request)
        .await?
        .answer
    {
        QueueAnswer::MessageQueued { queue_id } => Ok(queue_id),
        answer => panic!("{answer:?}"),
    }
}

pub(crate) fn envelope(from: &str, parameters: &str) -> Envelope {
    Envelope {
        reverse_path: from.into(),
        account: None,
        smtp_utf8: false,
        eight_bit: false,
        parameters: parameters.into(),
    }
}

pub(crate) fn waiting(address: &str) -> Recipient {
    wanting(address, "")
}

/// A recipient of whom the sender wants something.
pub(crate) fn wanting(address: &str, parameters: &str) -> Recipient {
    Recipient {
        address: address.into(),
        parameters: parameters.into(),
        standing: Standing::Waiting,
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.kill();
    }
}
