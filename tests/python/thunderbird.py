"""Thunderbird without a person: a profile that knows alice's account, and Marionette to do what a hand would do."""

import contextlib
import hashlib
import json
import os
import ssl
import subprocess

from marionette import Marionette
from rmail_test import ALICE, given, wait_for

# How an account is reached: ports by their names here, nsMsgSocketType in mailnews/base/public/MailNewsTypes2.idl.
TLS = {"imap": ("imaps", 3), "smtp": ("submissions", 3)}
STARTTLS = {"imap": ("imap", 2), "smtp": ("submission", 2)}

# What every script finds: the account, the window, and ways to wait.
COMMON = """
const {MailServices} = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const {MailUtils} = ChromeUtils.importESModule("resource:///modules/MailUtils.sys.mjs");
const server = MailServices.accounts.getAccount("account1").incomingServer;
const root = server.rootFolder;
const win = Services.wm.getMostRecentWindow("mail:3pane");
const sleep = time => new Promise(resolve => win.setTimeout(resolve, time));
async function until(question, what) {
    for (let turn = 0; turn < 900; turn++) {
        const answer = await question();
        if (answer) return answer;
        await sleep(100);
    }
    throw new Error("never: " + what);
}
const folder = name => root.descendants.find(found => found.name === name);
const subjects = found => [...found.messages].map(header => header.mime2DecodedSubject);
const message = (found, subject) => [...found.messages].find(header => header.mime2DecodedSubject === subject);
"""


def preferences(how):
    """Alice's account, the local folders that Thunderbird wants, and nothing that asks or calls home."""
    (imap, imap_socket), (smtp, smtp_socket) = how["imap"], how["smtp"]
    return {
        "mail.accountmanager.accounts": "account1,account2",
        "mail.accountmanager.defaultaccount": "account1",
        "mail.accountmanager.localfoldersserver": "server2",
        "mail.account.account1.server": "server1",
        "mail.account.account1.identities": "id1",
        "mail.account.account2.server": "server2",
        "mail.server.server1.type": "imap",
        "mail.server.server1.name": ALICE,
        "mail.server.server1.hostname": "localhost",
        "mail.server.server1.port": given["ports"][imap],
        "mail.server.server1.socketType": imap_socket,
        "mail.server.server1.authMethod": 3,
        "mail.server.server1.userName": ALICE,
        # It must not ask by itself: what it sees unasked was pushed.
        "mail.server.server1.login_at_startup": False,
        "mail.server.server1.check_new_mail": False,
        "mail.server.server2.type": "none",
        "mail.server.server2.name": "Local Folders",
        "mail.server.server2.hostname": "Local Folders",
        "mail.server.server2.userName": "nobody",
        "mail.identity.id1.fullName": "Alice",
        "mail.identity.id1.useremail": ALICE,
        "mail.identity.id1.smtpServer": "smtp1",
        "mail.identity.id1.valid": True,
        "mail.smtpservers": "smtp1",
        "mail.smtp.defaultserver": "smtp1",
        "mail.smtpserver.smtp1.hostname": "localhost",
        "mail.smtpserver.smtp1.port": given["ports"][smtp],
        "mail.smtpserver.smtp1.try_ssl": smtp_socket,
        "mail.smtpserver.smtp1.authMethod": 3,
        "mail.smtpserver.smtp1.username": ALICE,
        "marionette.port": 0,
        "network.proxy.type": 0,
        "app.update.enabled": False,
        "extensions.update.enabled": False,
        "datareporting.policy.dataSubmissionEnabled": False,
        "mail.provider.suppress_dialog_on_startup": True,
        "mail.rights.version": 1,
        "mail.shell.checkDefaultClient": False,
        "mailnews.start_page.enabled": False,
    }


class Thunderbird:
    """One that runs, with alice's password in its password manager."""

    def __init__(self, how):
        self.home = os.path.join(given["dir"], "thunderbird")
        self.profile = os.path.join(self.home, "profile")
        os.makedirs(self.profile, exist_ok=True)
        with open(os.path.join(self.profile, "user.js"), "w") as file:
            for name, value in preferences(how).items():
                file.write(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n")
        self.accept_certificate()
        port = os.path.join(self.profile, "MarionetteActivePort")
        with contextlib.suppress(FileNotFoundError):
            os.remove(port)
        self.dialog = os.path.join(self.home, "imap.moz_log")
        logging = {"MOZ_LOG": "IMAP:4,timestamp,sync", "MOZ_LOG_FILE": self.dialog.removesuffix(".moz_log")}
        environment = {**os.environ, **logging, "HOME": self.home, "MOZ_CRASHREPORTER_DISABLE": "1"}
        with open(os.path.join(self.home, "log"), "a") as log:
            self.process = subprocess.Popen(
                ["thunderbird", "--headless", "--marionette", "--remote-allow-system-access", "--no-remote", "--profile", self.profile],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        try:
            wait_for(lambda: os.path.exists(port) and os.path.getsize(port), 90)
            with open(port) as file:
                self.marionette = Marionette(int(file.read()))
            self.run('await until(() => Services.wm.getMostRecentWindow("mail:3pane")?.msgWindow, "its window");')
            self.remember_password()
        except BaseException:
            self.process.kill()
            raise

    def accept_certificate(self):
        """The test's certificate as an exception of the user, as after a click in the dialog (cert_override.txt)."""
        with open(given["ca_file"]) as file:
            digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(file.read())).digest()
        fingerprint = ":".join(f"{byte:02X}" for byte in digest)
        with open(os.path.join(self.profile, "cert_override.txt"), "w") as file:
            for name in ("imap", "imaps", "submission", "submissions"):
                file.write(f"localhost:{given['ports'][name]}:\tOID.2.16.840.1.101.3.4.2.1\t{fingerprint}\t\n")

    def remember_password(self):
        """As after "use the password manager", and given to the account, which otherwise would ask in a window."""
        self.run(
            """
            for (const place of ["imap://localhost", "smtp://localhost"]) {
                if ((await Services.logins.searchLoginsAsync({origin: place})).length) continue;
                const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
                login.init(place, null, place, args[0], args[1], "", "");
                await Services.logins.addLoginAsync(login);
            }
            server.password = args[1];
            """,
            ALICE,
            given["password"],
        )

    def run(self, script, *arguments):
        """What a script gives that knows `COMMON`."""
        return self.marionette.run(COMMON + script, *arguments)

    def wait_until_idle(self):
        """Until it listens to the inbox: an EXISTS in the answer to another command it reads and does not act on."""

        def idles():
            with open(self.dialog, errors="replace") as file:
                _, _, rest = file.read().rpartition("S-INBOX:SendData: ")
            return "IDLE" in rest.partition("\n")[0] and "+ idling" in rest

        wait_for(idles, 90)

    def quit(self):
        """Ends it as its menu does, so that it keeps what it knows."""
        self.marionette.command("Marionette:Quit", {"flags": ["eForceQuit"]})
        self.process.wait(60)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if error is not None:
            for name in (os.path.join(self.home, "log"), self.dialog):
                with open(name, errors="replace") as log:
                    print("".join(line for line in log if "gtk_" not in line and line.strip())[-12000:])
