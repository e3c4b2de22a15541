"""Messages of all kinds, well-formed and not, the same for the same seed."""

import base64
import os
import random

WORDS = ["plan", "Über", "привет", "日本", "invoice", "naïve", "re", "x" * 40, "a b", "O'Neil", "50%"]
ASCII = [word for word in WORDS if word.isascii()]
NAMES = ["Alice", "Bob B. Baker", "Jörg", "Ann, Q.", "", "\u5c71\u7530"]
LOCALS = ["alice", "bob.baker", "a+b", "very.long." + "l" * 50, "\"odd local\"", "joerg"]
HOSTS = ["x.test", "mail.y.test", "z.test", "[192.0.2.1]"]


class Zoo:
    """`tame`: nothing but what the standards know, so that order and threads are the same for all."""

    def __init__(self, seed, tame=False):
        self.dice = random.Random(seed)
        self.tame = tame

    def chance(self, percent):
        return self.dice.randrange(100) < percent

    def word(self, text):
        """A text as a header spells it."""
        kind = self.dice.randrange(5)
        if text.isascii() and kind < 3:
            return text
        if kind % 2:
            return f"=?utf-8?B?{base64.b64encode(text.encode()).decode()}?="
        coded = "".join(f"={byte:02X}" for byte in text.encode())
        return f"=?{'utf-8' if self.tame else self.dice.choice(['utf-8', 'UTF-8*en'])}?q?{coded}?="

    def address(self):
        local, host = self.dice.choice(LOCALS), self.dice.choice(HOSTS[:3] if self.tame else HOSTS)
        name = self.dice.choice(NAMES[:2] if self.tame else NAMES)
        kind = self.dice.randrange(8)
        if kind == 0:
            return f"{local}@{host}"
        if kind == 1:
            return f"{local}@{host} ({name if name.isascii() and name else 'a comment'})"
        if kind == 2:
            return f'"{name if name.isascii() else "q"} \\"quoted\\"" <{local}@{host}>'
        if kind == 3 and name and not name.isascii():
            return f"{self.word(name)} <{local}@{host}>"
        if kind == 4:
            return f"<{local}@{host}>"
        if not name or not name.isascii():
            name = "Name"
        return f'"{name}" <{local}@{host}>'

    def addresses(self):
        kind = 11 if self.tame else self.dice.randrange(12)
        if kind == 0:
            return "undisclosed-recipients:;"
        if kind == 1:
            return f"The Team: {self.address()},\r\n {self.address()};, {self.address()}"
        if kind == 2:
            return ", , " + self.address() + " ,"
        if kind == 3:
            return self.dice.choice(["", "nobody", "<>", "a@b@c.test", "<broken", "(only a comment)", "@", "a@"])
        return (",\r\n " if self.chance(50) else ", ").join(self.address() for _ in range(self.dice.randrange(1, 4)))

    def date(self):
        kind = 7 if self.tame else self.dice.randrange(8)
        day, hour = self.dice.randrange(1, 29), self.dice.randrange(24)
        if kind == 0:
            return self.dice.choice(["", "some day", "32 Foo 2020", "Thu, 1 Jan 1970"])
        if kind == 1:
            return f"{day} Feb 2021 {hour:02}:11 GMT"
        if kind == 2:
            return f"Mon, {day} Mar 99 {hour:02}:11:12 EST (a zone)"
        return f"Tue, {day} Jan 2020 {hour:02}:11:12 {self.dice.choice(['+0000', '-0330', '+1200'])}"

    def header(self, number):
        fields = []
        if self.tame or not self.chance(5):
            fields.append(("Date", self.date()))
        for name in ("From", "Sender", "Reply-To", "To", "Cc", "Bcc"):
            if self.chance({"From": 95, "To": 90}.get(name, 30)) or self.tame and name == "From":
                fields.append((name, self.addresses()))
                if self.chance(3) and not self.tame:
                    fields.append((name, self.addresses()))
        subject = " ".join(self.word(self.dice.choice(ASCII if self.tame else WORDS)) for _ in range(self.dice.randrange(4)))
        if self.tame and not subject:
            subject = "plan"
        if self.chance(20):
            subject = f"{self.dice.choice(['Re: ', 'Fwd: ', 'RE: [list] '])}{subject}"
        if self.chance(15):
            subject = subject.replace(" ", "\r\n ", 1)
        if not self.chance(5):
            fields.append(("Subject", subject))
        if not self.chance(10):
            fields.append(("Message-ID", f"<{number}@ids.test>"))
        if self.chance(40) and number > 3:
            parent = self.dice.randrange(1, number)
            fields.append(("In-Reply-To", f"<{parent}@ids.test>"))
            if self.chance(60):
                fields.append(("References", f"<{self.dice.randrange(1, number)}@ids.test>\r\n <{parent}@ids.test>"))
        if self.chance(10):
            fields.append(("X-Long", "y" * self.dice.choice([70, 1000, 5000])))
        if self.chance(10):
            fields.append(("X-Empty", ""))
        self.dice.shuffle(fields)
        return [f"{name}:{'' if self.chance(5) else ' '}{value}" for name, value in fields]

    def parameter(self):
        kind = self.dice.randrange(6)
        value = self.dice.choice(["report.pdf", "two words.txt", "naïve.txt", "semi;colon", "x" * 90])
        ascii_value = value.encode("ascii", "replace").decode()
        if kind == 0:
            coded = "".join(f"%{byte:02X}" for byte in value.encode())
            return f"name*=utf-8''{coded}"
        if kind == 1:
            return f'name*0="{ascii_value[:4]}";\r\n name*1="{ascii_value[4:]}"'
        if kind == 2 and " " not in ascii_value and ";" not in ascii_value and "?" not in ascii_value:
            return f"name={ascii_value}"
        return f'NAME="{ascii_value}"'

    def text(self):
        lines = []
        for _ in range(self.dice.randrange(6)):
            lines.append(self.dice.choice(["hello there", "", "From me", "--", "-- ", "--not-a-boundary", ".", "z" * 1200, "w%d tail" % self.dice.randrange(9)]))
        return "\r\n".join(lines) + ("" if self.chance(10) else "\r\n")

    def leaf(self):
        """Fields and body of a part without parts."""
        kind = self.dice.choice([0, 4, 6]) if self.tame else self.dice.randrange(7)
        if kind == 0:
            return [], self.text()
        if kind == 1:
            body = base64.encodebytes(self.dice.randbytes(self.dice.randrange(200))).decode().replace("\n", "\r\n")
            return [f"Content-Type: application/octet-stream; {self.parameter()}", "Content-Transfer-Encoding: base64", "Content-Disposition: attachment; file" + self.parameter()], body
        if kind == 2:
            return ["Content-Type: text/html; charset=utf-8", "Content-Transfer-Encoding: quoted-printable", "Content-Language: en, de", "Content-Location: http://x.test/a"], "<p>=C3=A4=\r\n</p>\r\n"
        if kind == 3:
            return [self.dice.choice(["Content-Type: text", "Content-Type: ;", "Content-Type: /", "Content-Type:", "Content-Type: text/plain; charset", "Content-Type: text/plain; =x; a=b"])], self.text()
        if kind == 4:
            return ["Content-Type: Text/PLAIN; Charset=US-ASCII; format=flowed", "Content-ID: <id@x.test>", "Content-Description: " + self.word("some text"), "Content-MD5: Q2hlY2s="], self.text()
        if kind == 5:
            return [f"Content-Type: image/png; {self.parameter()}", "Content-Transfer-Encoding: 8bit"], ""
        return ["Content-Type: text/plain; charset=\"utf-8\"", "Content-Transfer-Encoding: 8bit"], self.text() + "grüße\r\n"

    def body(self, depth, number):
        """Fields and body of anything."""
        if depth == 0 or self.tame or self.chance(40):
            return self.leaf()
        if self.chance(25):
            fields, inner = self.body(depth - 1, number)
            head = self.header(number) + fields
            return ["Content-Type: message/rfc822"], "\r\n".join(head) + "\r\n\r\n" + inner
        boundary = self.dice.choice(["b", "=_x", "a b'c", "long" * 16, "--", "b1"]) + str(depth)
        quoted = f'"{boundary}"'
        subtype = self.dice.choice(["mixed", "alternative", "digest", "related", "signed"])
        fields = [f"Content-Type: multipart/{subtype}; boundary={quoted}"]
        if self.chance(20):
            fields[0] += f";\r\n {self.parameter()}"
        body = self.dice.choice(["", "preamble\r\n", "This is MIME.\r\n\r\n"])
        for _ in range(self.dice.randrange(0, 4)):
            part, inner = self.body(depth - 1, number)
            blank = self.dice.choice(["", "", "", " ", "\t"])
            body += f"--{boundary}{blank}\r\n" + "".join(f"{field}\r\n" for field in part) + f"\r\n{inner}\r\n"
        if not self.chance(10):
            body += f"--{boundary}--{self.dice.choice(['', ' '])}\r\n"
        body += self.dice.choice(["", "", "epilogue\r\n"])
        return fields, body

    def message(self, number):
        fields, body = self.body(self.dice.randrange(4), number)
        head = self.header(number)
        head.append("MIME-Version: 1.0")
        head += fields
        if self.chance(4) and not self.tame:
            head.append("this is no field")
        if self.chance(4) and not self.tame:
            head.insert(0, "X-Raw: grüße")
        text = "\r\n".join(head) + "\r\n"
        if self.tame or not self.chance(2):
            text += "\r\n" + body
        return text.encode()


def corpus(directory):
    """What the fuzzers begin with, by name, with the line ends and octets that a mail may have."""
    found = {}
    for name in sorted(os.listdir(directory)):
        with open(os.path.join(directory, name), "rb") as file:
            message = file.read().replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n").replace(b"\0", b"?")
        if message:
            found[name] = message
    return found
