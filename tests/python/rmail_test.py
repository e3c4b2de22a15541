"""What the Python scripts of the system tests share: connections to the system under test."""

import contextlib
import email
import email.policy
import hashlib
import imaplib
import json
import os
import re
import smtplib
import socket
import ssl
import struct
import sys
import time

given = json.loads(os.environ["RMAIL_TEST"])
ALICE, BOB = "alice@example.test", "bob@example.test"


def trust():
    """A TLS context that trusts the certificate of the test and checks names."""
    context = ssl.create_default_context()
    context.load_verify_locations(given["ca_file"])
    return context


def imap(user=ALICE, password=None, tls=True):
    """A logged-in IMAP connection."""
    if tls:
        client = imaplib.IMAP4_SSL("localhost", given["ports"]["imaps"], ssl_context=trust())
    else:
        client = imaplib.IMAP4("127.0.0.1", given["ports"]["imap"])
    client.sock.settimeout(30)
    client.login(user, given["password"] if password is None else password)
    return client


def ok(answer):
    """The data of an answer that must be OK."""
    result, data = answer
    assert result == "OK", answer
    return data


def refused(answer):
    """The text of an answer that must be NO."""
    result, data = answer
    assert result == "NO", answer
    return data[0].decode()


def submission(user=ALICE, password=None):
    """A logged-in connection to port 587 with STARTTLS."""
    client = smtplib.SMTP("localhost", given["ports"]["submission"], timeout=30)
    client.starttls(context=trust())
    client.login(user, given["password"] if password is None else password)
    return client


def send(message, to=ALICE, sender="carol@outside.test"):
    """One message to port 25, without TLS. `message` is text or bytes with CRLF line ends."""
    if isinstance(message, str):
        message = message.replace("\n", "\r\n").encode()
    with smtplib.SMTP("127.0.0.1", given["ports"]["smtp"], timeout=30) as client:
        refused_recipients = client.sendmail(sender, to, message)
        assert not refused_recipients, refused_recipients


def letter(subject="hello", body="Hello.\n", sender="carol@outside.test", to=ALICE, more=""):
    """A small message as text."""
    date = "Mon, 02 Mar 2026 10:00:00 +0000"
    return f"From: {sender}\nTo: {to}\nSubject: {subject}\nDate: {date}\nMessage-ID: <{subject.replace(' ', '.')}@outside.test>\n{more}\n{body}"


def fetched(client, number, item="BODY.PEEK[]"):
    """The literal of one FETCH."""
    data = ok(client.fetch(str(number), f"({item})"))
    return data[0][1]


def wait_for(question, seconds=10.0):
    """Asks until the answer is true; fails after that time."""
    end = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        assert time.monotonic() < end, f"nothing within {seconds} s"
        time.sleep(0.05)


def messages(client, mailbox="INBOX"):
    """How many messages a mailbox has, by a fresh SELECT."""
    return int(ok(client.select(mailbox))[0])


def raw(port, hello=True):
    """A bare TCP connection; its greeting is read."""
    connection = socket.create_connection(("127.0.0.1", given["ports"][port]), timeout=10)
    greeting = connection.recv(4096) if hello else b""
    return connection, greeting


def rest(connection, seconds=2.0):
    """All that still comes until the server closes or is silent for that long."""
    connection.settimeout(seconds)
    received = b""
    with contextlib.suppress(TimeoutError, ConnectionResetError, ssl.SSLError):
        while chunk := connection.recv(65536):
            received += chunk
    return received
