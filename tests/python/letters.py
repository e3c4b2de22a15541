"""Letters for the two-way sync: attachments, 8-bit headers, odd structures; the same number gives the same bytes."""

import base64
import hashlib
import random


def letter(number):
    """One message with CRLF line ends."""
    dice = random.Random(number)
    head = [
        b"From: =?utf-8?Q?J=C3=B6rg?= <joerg@outside.test>",
        b"To: alice@example.test",
        b"Date: Mon, 02 Mar 2026 10:%02d:%02d +0100" % (number // 60 % 60, number % 60),
        b"Message-ID: <sync-%d@outside.test>" % number,
    ]
    # RFC 6532 headers in UTF-8, and headers in Latin-1 that obey no RFC but exist.
    if number % 3 == 0:
        head.append(("Subject: Grüße Nr. %d, привет, 你好" % number).encode())
    elif number % 3 == 1:
        head.append(("Subject: Grüße Nr. %d" % number).encode("latin-1"))
    else:
        head.append(b"Subject: number %d\r\n folded\r\n\tthrice" % number)
    kind = number % 4
    if kind == 0:
        body = b"plain text\r\n.dot\r\n..two\r\nFrom the start of a line\r\n" * dice.randint(1, 30)
    elif kind == 1:
        head += [b"MIME-Version: 1.0", b"Content-Type: text/plain; charset=iso-8859-1", b"Content-Transfer-Encoding: 8bit"]
        body = "Übergröße, naïve façade\r\n".encode("latin-1") * dice.randint(1, 50)
    else:
        body, boundary = multipart(number, dice)
        head += [b"MIME-Version: 1.0", b'Content-Type: multipart/mixed; boundary="' + boundary + b'"']
    # Some end without an empty last line, some with several.
    tail = b"" if number % 5 else b"\r\n\r\n"
    return b"\r\n".join(head) + b"\r\n\r\n" + body + tail


def multipart(number, dice):
    """A text and an attachment in base64."""
    boundary = b"=_part_%d" % number
    data = dice.randbytes(dice.randint(1000, 60000))
    coded = base64.encodebytes(data).replace(b"\n", b"\r\n")
    body = (
        b"preamble\r\n--" + boundary + b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        + ("Anhang für Nummer %d ✓\r\n" % number).encode()
        + b"--" + boundary + b"\r\nContent-Type: application/octet-stream\r\n"
        + ('Content-Disposition: attachment; filename="Übersicht %d.bin"\r\n' % number).encode()
        + b"Content-Transfer-Encoding: base64\r\n\r\n" + coded + b"--" + boundary + b"--\r\n"
    )
    return body, boundary


def digest(message):
    """What identifies the bytes."""
    return hashlib.sha256(message).hexdigest()


def without_tuid(message):
    """mbsync marks what it copies with a header of its own; all else must be untouched."""
    head, separator, body = message.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"X-TUID: ")]
    return b"\r\n".join(lines) + separator + body
