//! Private filters: OpenDKIM (Debian package `opendkim`), Rspamd (`rspamd`), SpamAssassin (`spamass-milter`, `spamd`), and filters written in
//! Python (`python3-milter`).

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::patience::wait_for;
use crate::program::{self, Service};
use crate::python;
use loopback::Port;

/// A filter, until it is dropped.
#[derive(Debug)]
pub struct Filter {
    service: Service,
    address: String,
    // What it needs as long as it runs.
    _port: Option<Port>,
    _scanner: Option<Service>,
}

/// A directory for the sockets, keys and logs of filters, which every user may search.
#[must_use]
pub fn directory() -> tempfile::TempDir {
    let dir = tempfile::Builder::new()
        .prefix("rmail-filters-")
        .tempdir_in("/tmp")
        .expect("/tmp is writable");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))
        .expect("our own directory");
    dir
}

impl Filter {
    /// OpenDKIM that signs as `domain`, on a Unix socket in `dir`. A key is made there if there is none.
    #[must_use]
    pub fn signer(dir: &Path, domain: &str) -> Self {
        let key = dir.join("key.pem");
        if !key.exists() {
            let mut openssl = program::command("openssl");
            openssl.args(["genrsa", "-out"]).arg(&key).arg("2048");
            program::run(&mut openssl, b"", Duration::from_secs(60)).succeeded();
        }
        let more = format!(
            "Mode s\nDomain {domain}\nSelector s1\nKeyFile {}\n",
            key.display()
        );
        let socket = dir.join("signer.sock");
        let address = format!("unix:{}", socket.display());
        let place = format!("local:{}", socket.display());
        Self::opendkim(dir, "signer", &place, &more, address, None)
    }

    /// OpenDKIM that verifies what the signer in `dir` signed, on a TCP port. It asks no name server.
    #[must_use]
    pub fn verifier(dir: &Path, domain: &str) -> Self {
        let mut openssl = program::command("openssl");
        openssl
            .args(["rsa", "-pubout", "-in"])
            .arg(dir.join("key.pem"));
        let public = program::run(&mut openssl, b"", Duration::from_secs(60)).succeeded();
        let lines = public.stdout.lines().filter(|line| !line.starts_with('-'));
        let record = format!(
            "s1._domainkey.{domain} v=DKIM1; k=rsa; p={}\n",
            lines.collect::<String>()
        );
        let keys = dir.join("public-keys");
        std::fs::write(&keys, record).expect("our own directory");
        let port = Port::reserve();
        let place = format!("inet:{}@127.0.0.1", port.number());
        let address = format!("inet:127.0.0.1:{}", port.number());
        let more = format!(
            "Mode v\nTestPublicKeys {}\nAlwaysAddARHeader yes\n",
            keys.display()
        );
        Self::opendkim(dir, "verifier", &place, &more, address, Some(port))
    }

    fn opendkim(
        dir: &Path,
        name: &str,
        place: &str,
        more: &str,
        address: String,
        port: Option<Port>,
    ) -> Self {
        let file = dir.join(format!("{name}.conf"));
        let config = format!(
            "Socket {place}\nUMask 0000\nBackground no\nSyslog no\nRequireSafeKeys no\nAutoRestart no\nPidFile {}\n{more}",
            dir.join(format!("{name}.pid")).display()
        );
        std::fs::write(&file, config).expect("our own directory");
        let mut command = program::command("opendkim");
        command.arg("-f").arg("-x").arg(&file);
        Self::start(
            &mut command,
            &dir.join(format!("{name}.log")),
            address,
            port,
        )
    }

    /// Rspamd on a TCP port, with no rules but those built in, the test pattern for spam (GTUBE) among them. It says in the header
    /// what it found, and asks no name server.
    #[must_use]
    pub fn rspamd(dir: &Path) -> Self {
        let home = dir.join("rspamd");
        std::fs::create_dir(&home).expect("our own directory");
        // Its own list of top-level domains takes it seconds to read.
        std::fs::write(home.join("tld"), "test\n").expect("our own directory");
        let port = Port::reserve();
        let config = format!(
            r#"lua = "$RULESDIR/rspamd.lua"
            options {{
                filters = ""; disable_hyperscan = true; local_addrs = [];
                url_tld = "{home}/tld"; pidfile = "{home}/pid"; tempdir = "{home}"; hs_cache_dir = "{home}";
                control_socket = "{home}/control mode=0600";
                dns {{ nameserver = ["127.0.0.1:9"]; timeout = 1s; retransmits = 0; }}
            }}
            logging {{ type = "console"; level = "info"; }}
            actions {{ reject = 15; add_header = 6; }}
            modules {{ path = "$PLUGINSDIR/milter_headers.lua"; }}
            milter_headers {{ use = ["x-spamd-result"]; skip_local = false; }}
            worker "rspamd_proxy" {{
                bind_socket = "127.0.0.1:{port}"; milter = yes; count = 1;
                upstream "local" {{ default = yes; self_scan = yes; }}
            }}
            "#,
            home = home.display(),
            port = port.number(),
        );
        let file = home.join("rspamd.conf");
        std::fs::write(&file, config).expect("our own directory");
        let mut command = program::command("rspamd");
        // It refuses to run as root unless it is told that this is meant.
        command.args(["-f", "-i", "-c"]).arg(&file);
        for name in ["DBDIR", "RUNDIR"] {
            command
                .arg("--var")
                .arg(format!("{name}={}", home.display()));
        }
        let address = format!("inet:127.0.0.1:{}", port.number());
        Self::start(&mut command, &home.join("log"), address, Some(port))
    }

    /// spamass-milter on a TCP port, with a spamd of its own behind it that knows the test pattern for spam (GTUBE) and nothing else.
    #[must_use]
    pub fn spamassassin(dir: &Path) -> Self {
        let home = dir.join("spamassassin");
        let (rules, site) = (home.join("rules"), home.join("site"));
        let write = |path: &Path, text: &str| {
            std::fs::create_dir_all(path.parent().expect("a file in a directory"))
                .and_then(|()| std::fs::write(path, text))
                .expect("our own directory");
        };
        let pattern = r"XJS\*C4JDBQADN1\.NSBN3\*2IDNEN\*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL\*C\.34X";
        let text = format!(
            "body GTUBE /{pattern}/\nscore GTUBE 1000\nuse_bayes 0\n\
             add_header all Status _YESNO_, score=_SCORE_\n"
        );
        write(&rules.join("test.cf"), &text);
        let plugin = "loadplugin Mail::SpamAssassin::Plugin::Check\n";
        write(&site.join("init.pre"), plugin);
        let socket = home.join("spamd.sock");
        let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let mut command = program::command("spamd");
        command.args(["--local", "--nouser-config", "--syslog=stderr"]);
        command.args(["--min-children=1", "--max-children=1", "--socketmode=0666"]);
        command
            .arg(option("socketpath", &socket))
            .arg(option("configpath", &rules))
            .arg(option("siteconfigpath", &site))
            .arg(option("pidfile", &home.join("pid")));
        let scanner = Service::start(&mut command, &home.join("spamd.log"));
        let is_there = || UnixStream::connect(&socket).ok();
        wait_for(Duration::from_secs(60), is_there)
            .unwrap_or_else(|error| panic!("spamd: {error}\n{}", scanner.log()));
        let port = Port::reserve();
        let place = format!("inet:{}@127.0.0.1", port.number());
        let address = format!("inet:127.0.0.1:{}", port.number());
        let mut command = program::command("spamass-milter");
        command
            .args(["-p", &place, "-r", "15", "--", "-U"])
            .arg(&socket);
        Self::start_before(
            &mut command,
            &home.join("log"),
            address,
            Some(port),
            Some(scanner),
        )
    }

    /// Whether filters in Python can run here.
    #[must_use]
    pub fn has_python() -> bool {
        python::has("Milter")
    }

    /// A filter in Python: `script` defines the class `Filter`, and finds the module `Milter` imported.
    #[must_use]
    pub fn python(dir: &Path, script: &str) -> Self {
        let port = Port::reserve();
        let whole = format!(
            "import Milter\n{script}\nMilter.factory = Filter\n\
             Milter.set_flags(Milter.ADDHDRS | Milter.CHGHDRS | Milter.CHGBODY | Milter.ADDRCPT | Milter.DELRCPT | Milter.CHGFROM)\n\
             Milter.runmilter('rmail-test', f'inet:{{port}}@127.0.0.1', 60)\n"
        );
        let mut command = python::command(&whole, &json!({"port": port.number()}));
        let address = format!("inet:127.0.0.1:{}", port.number());
        Self::start(&mut command, &dir.join("python.log"), address, Some(port))
    }

    fn start(command: &mut Command, log: &Path, address: String, port: Option<Port>) -> Self {
        Self::start_before(command, log, address, port, None)
    }

    fn start_before(
        command: &mut Command,
        log: &Path,
        address: String,
        port: Option<Port>,
        scanner: Option<Service>,
    ) -> Self {
        if let Some(socket) = address.strip_prefix("unix:") {
            // The socket of an earlier start may be left; anything else in the way shows below.
            drop(std::fs::remove_file(socket));
        }
        let service = Service::start(command, log);
        let filter = Self {
            service,
            address,
            _port: port,
            _scanner: scanner,
        };
        wait_for(Duration::from_secs(20), || filter.is_there().then_some(()))
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", filter.address, filter.log()));
        filter
    }

    fn is_there(&self) -> bool {
        match self.address.split_once(':') {
            Some(("unix", path)) => UnixStream::connect(path).is_ok(),
            Some((_, place)) => TcpStream::connect(place).is_ok(),
            None => false,
        }
    }

    /// What it said.
    #[must_use]
    pub fn log(&self) -> String {
        self.service.log()
    }

    /// An entry for `smtp.filters`.
    #[must_use]
    pub fn entry(&self, name: &str, listeners: &[&str]) -> Value {
        json!({"name": name, "address": self.address, "listeners": listeners})
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        self.service.stop(Duration::from_secs(10));
    }
}
