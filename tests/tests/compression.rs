//! COMPRESS=DEFLATE (RFC 4978) with Python's `zlib` at the other end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions too"
)]

use serde_json::json;
use system_tests::{Options, System, skip_without};

/// A client that compresses, on top of a connection of `imaplib`.
const TOOLS: &str = r#"
import zlib

class Compressed:
    def __init__(self, client):
        self.sock, self.buffer, self.received, self.sent = client.sock, b"", 0, 0
        client.send(b"z COMPRESS DEFLATE\r\n")
        assert client._get_line().startswith(b"z OK"), "no compression"
        self.inflate, self.deflate = zlib.decompressobj(-15), zlib.compressobj(6, zlib.DEFLATED, -15)

    def send(self, octets):
        out = self.deflate.compress(octets) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
        self.sent += len(out)
        self.sock.sendall(out)

    def read(self):
        octets = self.sock.recv(65536)
        self.received += len(octets)
        self.buffer += self.inflate.decompress(octets)
        return bool(octets)

    def line(self):
        while b"\r\n" not in self.buffer:
            assert self.read(), "hung up"
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def octets(self, count):
        while len(self.buffer) < count:
            assert self.read(), "hung up"
        octets, self.buffer = self.buffer[:count], self.buffer[count:]
        return octets

    def say(self, command):
        "The untagged lines, with their literals, and the last line."
        self.send(b"a " + command + b"\r\n")
        lines = []
        while True:
            line = self.line()
            if line.startswith(b"a "):
                return lines, line
            while match := re.search(rb"\{(\d+)\}$", line):
                line += self.octets(int(match[1])) + self.line()
            lines.append(line)
"#;

#[test]
fn mail_goes_both_ways_compressed() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    let script = r#"
client = Compressed(imap())
body = b"".join(b"line %d of a text as people write it\r\n" % n for n in range(100))
noise = os.urandom(30000).hex().encode() + b"\r\n"
messages = [b"Subject: %d\r\n\r\n" % n + (noise if n % 7 == 0 else body) for n in range(60)]
for message in messages:
    client.send(b"a APPEND INBOX {%d+}\r\n" % len(message) + message + b"\r\n")
    assert client.line().startswith(b"a OK")
_, last = client.say(b"SELECT INBOX")
assert last.startswith(b"a OK"), last
before = client.received
lines, last = client.say(b"FETCH 1:* BODY.PEEK[]")
assert last.startswith(b"a OK") and len(lines) == len(messages), (last, len(lines))
for line, message in zip(lines, messages):
    assert message in line
size = sum(map(len, messages))
assert client.received - before < size * 3 // 4, (client.received - before, size)
# After a pause the compressor is another one.
client.send(b"a IDLE\r\n")
assert client.line().startswith(b"+ ")
time.sleep(0.3)
client.send(b"DONE\r\n")
assert client.line().startswith(b"a OK")
_, last = client.say(b"COMPRESS DEFLATE")
assert last.startswith(b"a NO [COMPRESSIONACTIVE]"), last
_, last = client.say(b"LOGOUT")
assert last.startswith(b"a OK"), last
"#;
    system.python(&format!("{TOOLS}{script}"), &json!({}));
}

#[test]
fn a_bomb_is_cut_off_before_it_takes_memory() {
    skip_without!("python3");
    let system = System::start(Options::alice());
    let imapd = system.pid("imapd").unwrap();
    let script = r#"
def memory():
    text = open(f"/proc/{imapd}/status").read()
    return int(re.search(r"VmHWM:\s+(\d+)", text)[1])
first = imap()
before = memory()
for octet in (b"a", b"(", b'{'):
    client = Compressed(imap())
    try:
        client.send(octet * (200 << 20))
        while client.read():
            pass
    except (ConnectionError, ssl.SSLError):
        pass
    assert b"BYE" in client.buffer or b"BAD" in client.buffer or not client.buffer, client.buffer[:200]
grown = memory() - before
assert grown < 16 << 10, f"{grown} KiB more"
# What is said behind COMPRESS before its answer means nothing.
client = imap()
client.send(b"z COMPRESS DEFLATE\r\ny NOOP\r\n")
assert client._get_line().startswith(b"* BYE [CLIENTBUG]")
# Nor does what is no deflate.
client = Compressed(imap())
client.sock.sendall(b"\xff" * 100)
assert not client.read() or b"a " not in client.buffer
ok(first.noop())
"#;
    system.python(&format!("{TOOLS}{script}"), &json!({ "imapd": imapd }));
}
