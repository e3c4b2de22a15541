"""What idle connections cost a server in memory: the proportional share (PSS) of its processes, before and behind."""

import base64
import glob
import hashlib
import hmac
import resource
import socket
import sqlite3
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

# What the first connections bring into memory for good is not theirs.
FIRST = 50
# For what is let go a while behind the last command.
SETTLE = 8
LETTER = b"From: a@x.test\r\nSubject: one\r\n\r\n" + b"A line of sixty-two octets that says nothing to anybody at all.\r\n" * 1000


def copy_accounts(given):
    """Accounts u0@example.test and so on, with the record of the one that is there: hashing as many passwords would take an hour."""
    database = sqlite3.connect(given["database"])
    database.execute("CREATE TEMP TABLE copy AS SELECT * FROM main.users LIMIT 1")
    database.execute("UPDATE copy SET id = NULL")
    for number in range(FIRST + given["count"]):
        database.execute("UPDATE copy SET local = ?", [f"u{number}"])
        database.execute("INSERT INTO main.users SELECT * FROM copy")
    database.commit()


def user(number, given):
    # Dovecot's mail of forty users has an owner of its own: an owner may have no more than 128 inotify instances.
    return f"u{number}@example.test" if given["scram"] else f"u{number}@{70000 + number // 40}"


def below(root):
    """A process and all that it started."""
    parents = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            fields = open(path).read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(path.split("/")[2]))
    found, waiting = [], [root]
    while waiting:
        found.append(waiting.pop())
        waiting += parents.get(found[-1], [])
    return found


def memory(pid, role):
    """Bytes of one process, or of all below it."""
    total = 0
    for one in below(pid) if role.startswith("all") else [pid]:
        try:
            lines = open(f"/proc/{one}/smaps_rollup").read().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024


def processes(pid):
    return len(below(pid))


class Connection:
    def __init__(self, number, given, context):
        # A network of its own for each hundred, as clients of the world have.
        source = f"127.{1 + number // 25000}.{number // 250 % 100}.{1 + number % 250}"
        bare = socket.create_connection(("127.0.0.1", given["port"]), timeout=300, source_address=(source, 0))
        self.stream = context.wrap_socket(bare)
        self.say(b"", b"* OK")
        if given["scram"]:
            self.log_in(user(number, given), given["salted"])
        else:
            self.say(f'a LOGIN {user(number, given)} "{given["password"]}"\r\n'.encode(), b"a OK")

    def say(self, command, until):
        self.stream.sendall(command)
        data = b""
        while until not in data:
            piece = self.stream.recv(65536)
            assert piece, data
            data += piece
        return data

    def log_in(self, name, salted):
        """SCRAM-SHA-256 (RFC 7677): the password is hashed once for all who have the same salt."""
        bare = f"n={name},r=abcdefgh"
        first = self.say(b"a AUTHENTICATE SCRAM-SHA-256 " + base64.b64encode(b"n,," + bare.encode()) + b"\r\n", b"\r\n")
        challenge = base64.b64decode(first[2:]).decode()
        nonce, salt, rounds = [part[2:] for part in challenge.split(",")[:3]]
        key = salted(base64.b64decode(salt), int(rounds))
        last = f"c=biws,r={nonce}"
        client = hmac.digest(key, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client).digest(), f"{bare},{challenge},{last}".encode(), "sha256")
        proof = base64.b64encode(bytes(one ^ other for one, other in zip(client, signature))).decode()
        self.say(base64.b64encode(f"{last},p={proof}".encode()) + b"\r\n", b"+ ")
        self.say(b"\r\n", b"a OK")

    def select(self):
        self.say(b"b SELECT INBOX\r\n", b"b OK")

    def idle(self):
        self.say(b"c IDLE\r\n", b"+ ")

    def read(self):
        """A message comes in and goes out, then it idles again."""
        self.say(b"DONE\r\n", b"c OK")
        self.say(b"d APPEND INBOX {%d}\r\n" % len(LETTER), b"+ ")
        self.say(LETTER + b"\r\n", b"d OK")
        self.say(b"e FETCH 1 (ENVELOPE BODY.PEEK[])\r\n", b"e OK")
        self.idle()


def measure(name, given):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    known = {}

    def salted(salt, rounds):
        if (salt, rounds) not in known:
            known[salt, rounds] = hashlib.pbkdf2_hmac("sha256", given["password"].encode(), salt, rounds)
        return known[salt, rounds]

    given["salted"] = salted
    count, roles = given["count"], given["roles"]
    with ThreadPoolExecutor(8) as pool:
        def visit(number):
            connection = Connection(number, given, context)
            if given["straight"]:
                connection.select()
                connection.idle()
            return connection
        first = list(pool.map(visit, range(FIRST)))
        for step in [Connection.select, Connection.idle][2 * given["straight"]:] + [Connection.read]:
            list(pool.map(step, first))
        time.sleep(SETTLE)
        before = {role: memory(pid, role) for role, pid in roles.items()}
        there = {role: processes(pid) for role, pid in roles.items()}
        more = list(pool.map(visit, range(FIRST, FIRST + count)))
        states = [("logged in", None), ("INBOX selected", Connection.select), ("IDLE", Connection.idle)]
        if given["straight"]:
            states = [("IDLE", None)]
        states += [("IDLE, behind APPEND and FETCH of 63 KiB", Connection.read)]
        for state, step in states:
            if step:
                list(pool.map(step, more))
            time.sleep(SETTLE)
            each = [f"{role} {(memory(pid, role) - before[role]) / count / 1024:.1f}" for role, pid in roles.items()]
            news = [processes(pid) - there[role] for role, pid in roles.items()]
            each += [f"{max(news)} processes more"] if max(news) else []
            print(f"| {name} | {count} | {state} | {', '.join(each)} |", flush=True)
