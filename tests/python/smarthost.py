"""A smarthost made of aiosmtpd: wants STARTTLS and AUTH, keeps what it gets as files. Arguments: port, cert, key, directory."""

import asyncio
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


class Keeper:
    """Writes each message, with who sent it, into a file."""

    count = 0

    async def handle_DATA(self, server, session, envelope):
        Keeper.count += 1
        name = os.path.join(directory, f"{Keeper.count}.eml")
        with open(name + ".new", "wb") as file:
            file.write(f"login={session.auth_data.decode()} from={envelope.mail_from} to={','.join(envelope.rcpt_tos)}\r\n".encode())
            file.write(envelope.original_content)
        os.rename(name + ".new", name)
        return "250 2.0.0 kept"


def authenticator(server, session, envelope, mechanism, auth_data):
    """One user, one password."""
    if (auth_data.login, auth_data.password) == (b"relay-user", b"relay secret"):
        return AuthResult(success=True, auth_data=auth_data.login)
    return AuthResult(success=False, handled=False)


async def serve(port, context):
    def session():
        return SMTP(Keeper(), hostname="smarthost.test", tls_context=context, require_starttls=True, auth_required=True, authenticator=authenticator)

    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


port, cert, key, directory = sys.argv[1:]
tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
tls.load_cert_chain(cert, key)
asyncio.run(serve(int(port), tls))
