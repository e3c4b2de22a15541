"""Marionette, by which Mozilla's programs are driven: JSON with its length in front, over TCP."""

import json
import socket


class Marionette:
    """A session in the program's own (chrome) context."""

    def __init__(self, port, seconds=120):
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self.reader = self.connection.makefile("rb")
        self.number = 0
        self.receive()
        self.command("WebDriver:NewSession", {})
        self.command("Marionette:SetContext", {"value": "chrome"})
        self.command("WebDriver:SetTimeouts", {"script": seconds * 1000})

    def receive(self):
        """One packet."""
        length = b""
        while (byte := self.reader.read(1)) != b":":
            assert byte.isdigit(), length + byte
            length += byte
        return json.loads(self.reader.read(int(length)))

    def command(self, name, parameters):
        """The result of one command, which must succeed."""
        self.number += 1
        packet = json.dumps([0, self.number, name, parameters]).encode()
        self.connection.sendall(b"%d:%s" % (len(packet), packet))
        _, number, error, result = self.receive()
        assert number == self.number, (number, self.number)
        assert error is None, error
        return result

    def run(self, script, *arguments):
        """What the body of an async function gives when the program runs it."""
        whole = (
            "const [given, resolve] = [Array.from(arguments).slice(0, -1), arguments[arguments.length - 1]];"
            "(async (...args) => {" + script + "})(...given).then("
            "value => resolve({value}), error => resolve({error: `${error}\\n${error.stack}`}));"
        )
        answer = self.command("WebDriver:ExecuteAsyncScript", {"script": whole, "args": list(arguments), "sandbox": "system", "newSandbox": False})["value"]
        assert "error" not in answer, answer["error"]
        return answer.get("value")
