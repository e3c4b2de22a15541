"""What IMAP servers say, as nested lists: atoms are strings, strings are bytes, NIL is None."""

import socket


class Connection:
    def __init__(self, port, user, password):
        self.file = socket.create_connection(("127.0.0.1", port)).makefile("rwb")
        self.tag = 0
        self.file.readline()
        self.say(f'LOGIN "{user}" "{password}"')

    def say(self, command, literal=None):
        """The untagged answers to a command that succeeds, as bytes with their literals in them."""
        self.tag += 1
        tag = b"t%d " % self.tag
        self.file.write(tag + command.encode())
        if literal is not None:
            self.file.write(b" {%d+}\r\n" % len(literal) + literal)
        self.file.write(b"\r\n")
        self.file.flush()
        answers = []
        while True:
            line = self.line()
            if line.startswith(tag):
                assert line[len(tag):].startswith(b"OK"), (command[:200], line)
                return answers
            answers.append(line)

    def line(self):
        whole = b""
        while True:
            line = self.file.readline()
            assert line, "the connection is gone"
            whole += line
            if not line.endswith(b"}\r\n"):
                return whole
            size = line[line.rindex(b"{") + 1:-3]
            whole += self.file.read(int(size))

    def fetch(self, numbers, items):
        """The items of messages, by number and name."""
        found = {}
        for answer in self.say(f"FETCH {numbers} ({items})"):
            head, _, rest = answer.partition(b" FETCH ")
            if not rest:
                continue
            tree, _ = read(rest, 0)
            found[int(head.split()[1])] = dict(zip(tree[::2], tree[1::2]))
        return found


def read(data, at):
    """One value, and where it ends."""
    byte = data[at:at + 1]
    if byte == b"(":
        values, at = [], at + 1
        while data[at:at + 1] != b")":
            if data[at:at + 1] == b" ":
                at += 1
                continue
            value, at = read(data, at)
            values.append(value)
        return values, at + 1
    if byte == b'"':
        value, at = b"", at + 1
        while data[at:at + 1] != b'"':
            at += data[at:at + 1] == b"\\"
            value, at = value + data[at:at + 1], at + 1
        return value, at + 1
    if byte == b"{":
        end = data.index(b"}\r\n", at)
        size = int(data[at + 1:end])
        return data[end + 3:end + 3 + size], end + 3 + size
    end, depth = at, 0
    while end < len(data) and (depth or data[end:end + 1] not in b" ()\r"):
        depth += (data[end:end + 1] == b"[") - (data[end:end + 1] == b"]")
        end += 1
    assert end > at, data[at:at + 40]
    atom = data[at:end].decode()
    return (None if atom.upper() == "NIL" else atom), end
