//! Proxies that we did not write stand before the server, and it knows their clients all the same.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use loopback::Port;
use serde_json::{Value, json};
use system_tests::patience::wait_for;
use system_tests::program::{self, Service};
use system_tests::smtp::Client;
use system_tests::{Options, System, skip_unless, skip_without};

const MAIL_MODULE: &str = "/usr/lib/nginx/modules/ngx_mail_module.so";
const LETTER: &[u8] = b"From: carol@outside.test\r\nSubject: x\r\n\r\ntext\r\n";
const CLIENT: &str = "client.example.net";
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Clients on this machine are counted here, and may guess two addresses.
fn start(more: &Value) -> System {
    let limits = json!({"exempt": [], "refused_recipients": 2, "greeting_delay_ms": 0});
    let options = Options::alice().config(&json!({"smtp": {"limits": limits}}));
    System::start(options.config(more))
}

/// A proxy that runs until it is dropped.
struct Proxy {
    service: Service,
    port: Port,
}

impl Proxy {
    fn start(mut command: std::process::Command, dir: &Path, port: Port) -> Self {
        let service = Service::start(&mut command, &dir.join("log"));
        let proxy = Self { service, port };
        wait_for(Duration::from_secs(20), || {
            TcpStream::connect(proxy.address()).ok()
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", proxy.service.log()));
        proxy
    }

    /// nginx, which sends all mail to `server`; `how` it tells that about its clients.
    fn nginx(dir: &Path, server: SocketAddr, how: &str) -> Self {
        let port = Port::reserve();
        let config = format!(
            "load_module {MAIL_MODULE};\ndaemon off; master_process off; pid {dir}/pid; error_log stderr info;\n\
             events {{ worker_connections 64; }}\n\
             mail {{\n server_name proxy.test; auth_http {auth}/;\n\
             server {{ listen 127.0.0.1:{port}; protocol smtp; smtp_auth none; {how} }}\n}}\n",
            dir = dir.display(),
            auth = directory(server),
            port = port.number(),
        );
        let file = dir.join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = program::command("nginx");
        command.arg("-e").arg("stderr").arg("-p").arg(dir);
        command.arg("-c").arg(&file);
        Self::start(command, dir, port)
    }

    /// HAProxy, which tells `server` of its clients by `how`.
    fn haproxy(dir: &Path, server: SocketAddr, how: &str) -> Self {
        let port = Port::reserve();
        let config = format!(
            "defaults\n mode tcp\n timeout client 60s\n timeout server 60s\n timeout connect 20s\n\
             listen mail\n bind 127.0.0.1:{}\n server here {server} {how}\n",
            port.number()
        );
        let file = dir.join("haproxy.cfg");
        std::fs::write(&file, config).unwrap();
        let mut command = program::command("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        Self::start(command, dir, port)
    }

    fn address(&self) -> SocketAddr {
        (HERE, self.port.number()).into()
    }

    fn greet(&self, from: Ipv4Addr) -> Client {
        let (mut client, greeting) = Client::connect_from(from, self.address())
            .unwrap_or_else(|error| panic!("{error}\n{}", self.service.log()));
        assert_eq!(greeting.code, 220, "{}", greeting.text());
        let reply = client.command(&format!("EHLO {CLIENT}")).unwrap();
        assert_eq!(reply.code, 250, "{}", reply.text());
        client
    }

    fn asks(&self, from: Ipv4Addr, recipient: &str) -> String {
        let mut client = self.greet(from);
        client.command("MAIL FROM:<carol@outside.test>").unwrap();
        let reply = client.command(&format!("RCPT TO:<{recipient}>")).unwrap();
        reply.text()
    }
}

/// What nginx asks where a client's mail goes to: to `server`, always. Returns where it listens.
fn directory(server: SocketAddr) -> String {
    let listener = TcpListener::bind((HERE, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut asked = Vec::new();
            let mut piece = [0; 1024];
            while !asked.ends_with(b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(read @ 1..) => asked.extend(&piece[..read]),
                    // nginx has gone; the test notices.
                    _ => break,
                }
            }
            let answer = format!(
                "HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Server: {}\r\nAuth-Port: {}\r\n\r\n",
                server.ip(),
                server.port()
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address.to_string()
}

/// A client's mail says where it came from, and what another client did does not count for it. `name` is what the server hears
/// it call itself.
fn knows_clients_of(proxy: &Proxy, system: &System, name: &str) {
    let [one, other] = [Ipv4Addr::new(127, 1, 0, 1), Ipv4Addr::new(127, 2, 0, 1)];
    let mut client = proxy.greet(one);
    client
        .deliver("carol@outside.test", "alice@example.test", LETTER)
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", proxy.service.log(), system.log()));
    let messages = system.account("alice@example.test").messages("INBOX");
    let text = String::from_utf8(messages[0].bytes()).unwrap();
    let trace = format!("Received: from {name} ([{one}])");
    assert!(text.contains(&trace), "{text}");
    for guess in ["a@example.test", "b@example.test"] {
        let reply = proxy.asks(one, guess);
        assert!(reply.starts_with("550 5.1.1"), "{reply}");
    }
    let reply = proxy.asks(one, "alice@example.test");
    assert!(reply.starts_with("450 4.7.1"), "{reply}");
    let reply = proxy.asks(other, "alice@example.test");
    assert!(reply.starts_with("250 "), "{reply}");
}

#[test]
fn nginx_says_with_xclient_who_its_clients_are() {
    skip_without!("nginx");
    skip_unless!(
        Path::new(MAIL_MODULE).exists(),
        "libnginx-mod-mail is not installed"
    );
    let dir = tempfile::tempdir().unwrap();
    let system = start(&json!({"smtp": {"xclient": {"clients": ["127.0.0.1"]}}}));
    let proxy = Proxy::nginx(dir.path(), system.address("smtp"), "xclient on;");
    knows_clients_of(&proxy, &system, CLIENT);
}

#[test]
fn nginx_and_haproxy_say_with_a_proxy_header_who_their_clients_are() {
    skip_without!("nginx", "haproxy");
    skip_unless!(
        Path::new(MAIL_MODULE).exists(),
        "libnginx-mod-mail is not installed"
    );
    let proxies = json!({"smtp": {"proxies": ["127.0.0.1"]}});
    type Begin = fn(&Path, SocketAddr) -> Proxy;
    let nginx: Begin = |dir, server| Proxy::nginx(dir, server, "xclient off; proxy_protocol on;");
    let first: Begin = |dir, server| Proxy::haproxy(dir, server, "send-proxy");
    let second: Begin = |dir, server| Proxy::haproxy(dir, server, "send-proxy-v2");
    // nginx goes on in its own name.
    for (begin, name) in [(nginx, "proxy.test"), (first, CLIENT), (second, CLIENT)] {
        let dir = tempfile::tempdir().unwrap();
        let system = start(&proxies);
        let proxy = begin(dir.path(), system.address("smtp"));
        knows_clients_of(&proxy, &system, name);
    }
}
