//! An HTTPS server for the MTA-STS policies of domains: Python's.

use std::path::Path;
use std::time::Duration;

use crate::certificate::Certificate;
use crate::patience::wait_for;
use crate::program::Service;
use crate::python;
use loopback::Port;

/// Answers with the text in the file named like the host it is asked for.
const SCRIPT: &str = r#"
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            text = open(os.path.join(home, os.path.basename(self.headers["Host"])), "rb").read()
        except OSError:
            return self.send_error(404)
        self.send_response(200 if self.path == "/.well-known/mta-sts.txt" else 404)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *words):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"#;

/// The server, until it is dropped.
#[derive(Debug)]
pub struct Policies {
    _service: Service,
    port: Port,
}

impl Policies {
    /// Starts it with this certificate; the policies, by the names of their hosts, stand in `home`.
    #[must_use]
    pub fn serve(home: &Path, certificate: &Certificate, policies: &[(String, String)]) -> Self {
        std::fs::create_dir_all(home).expect("our own directory");
        for (host, text) in policies {
            std::fs::write(home.join(host), text).expect("our own file");
        }
        let port = Port::reserve();
        let Certificate { cert, key } = certificate;
        let number = port.number();
        let variables = serde_json::json!({"home": home, "cert": cert, "key": key, "port": number});
        let mut command = python::command(SCRIPT, &variables);
        let service = Service::start(&mut command, &home.with_extension("log"));
        let listens = || std::net::TcpStream::connect(("127.0.0.1", number)).ok();
        let listens = wait_for(Duration::from_secs(30), listens);
        listens.unwrap_or_else(|error| panic!("{error}\n{}", service.log()));
        Self {
            _service: service,
            port,
        }
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port.number()
    }
}
