//! A private postsrsd (Debian package `postsrsd`): the rewriting of senders as Postfix has it.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::patience::wait_for;
use crate::program::{self, Service};
use loopback::Port;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(20);

/// The program, until this is dropped.
#[derive(Debug)]
pub struct Postsrsd {
    service: Service,
    forward: Port,
    reverse: Port,
    _dir: tempfile::TempDir,
}

impl Postsrsd {
    /// Starts one that rewrites into addresses of `domain`.
    #[must_use]
    pub fn start(domain: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "a secret of these tests\n").expect("our own file");
        let (forward, reverse) = (Port::reserve(), Port::reserve());
        let mut command = program::command("postsrsd");
        command.arg("-4").arg("-l127.0.0.1");
        command.arg(format!("-s{}", secret.display()));
        command.arg(format!("-d{domain}"));
        command.arg(format!("-f{}", forward.number()));
        command.arg(format!("-r{}", reverse.number()));
        let service = Service::start(&mut command, &dir.path().join("log"));
        let started = Self {
            service,
            forward,
            reverse,
            _dir: dir,
        };
        wait_for(LIMIT, || connect(&started.reverse))
            .unwrap_or_else(|error| panic!("postsrsd: {error}\n{}", started.service.log()));
        started
    }

    /// What it makes of a sender.
    #[must_use]
    pub fn rewrite(&self, sender: &str) -> String {
        ask(&self.forward, sender)
    }

    /// Whose address a rewritten one is.
    #[must_use]
    pub fn restore(&self, rewritten: &str) -> String {
        ask(&self.reverse, rewritten)
    }
}

fn connect(port: &Port) -> Option<TcpStream> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port.number())).ok()
}

// tcp_table(5): "get KEY", and "200 VALUE" for what is there; our addresses have nothing that would have to be encoded.
fn ask(port: &Port, key: &str) -> String {
    let mut stream = connect(port).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a socket");
    stream
        .write_all(format!("get {key}\n").as_bytes())
        .expect("it listens");
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .expect("it answers");
    let value = answer.trim_end().strip_prefix("200 ");
    value
        .unwrap_or_else(|| panic!("{key}: {answer}"))
        .to_owned()
}
