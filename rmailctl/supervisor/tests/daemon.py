"""A small daemon for the supervisor's tests; its name is that of the file. Each TCP connection may order one thing by a line."""
import os, signal, socket, sys

name = os.path.basename(__file__).removesuffix(".py")
assert os.environ["LISTEN_PID"] == str(os.getpid())
names = os.environ["LISTEN_FDNAMES"].split(":")
assert len(names) == int(os.environ["LISTEN_FDS"])
reloads = 0


def tell(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(os.environ["NOTIFY_SOCKET"])
        notify.send(text.encode())


def stop(*_):
    print(f"daemon {name} stopping", file=sys.stderr, flush=True)
    os._exit(0)


def reload(*_):
    global reloads
    reloads += 1


def credential():
    with open(os.path.join(os.environ["CREDENTIALS_DIRECTORY"], "tls.key")) as file:
        return file.read().strip()


signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGHUP, reload)
tell("READY=1")
first = socket.socket(fileno=3)
first.setblocking(True)
while True:
    connection, _ = first.accept()
    order = connection.makefile().readline().strip()
    if order == "die":
        os._exit(3)
    if order == "useless":
        os._exit(78)
    if order == "who":
        answer = f"{os.getpid()} {os.getuid()} {os.getgid()} {os.getgroups()} {','.join(names)}"
    elif order == "credential":
        answer = f"{credential()} {reloads}"
    elif order == "see":
        answer = " ".join(sorted(os.listdir("/")))
    elif order.startswith("open "):
        try:
            with open(order[5:], "a"):
                answer = "opened"
        except OSError as error:
            answer = error.strerror
    elif order.startswith("read "):
        try:
            with open(order[5:]):
                answer = "opened"
        except OSError as error:
            answer = error.strerror
    elif order.startswith("link "):
        # What sys::file::link_temporary does first: O_TMPFILE, then linkat with AT_EMPTY_PATH.
        import ctypes
        path = order[5:]
        nameless = os.open(os.path.dirname(path), os.O_TMPFILE | os.O_RDWR, 0o600)
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.linkat(nameless, b"", -100, path.encode(), 0x1000)
        answer = os.strerror(ctypes.get_errno()) if failed else "linked"
        os.close(nameless)
    elif order == "environment":
        answer = " ".join(sorted(os.environ))
    elif order == "descriptors":
        answer = ""
        for fd in range(256):
            try:
                os.fstat(fd)
                answer += f"{fd} "
            except OSError:
                pass
    else:
        answer = "?"
    connection.sendall(answer.encode() + b"\n")
    connection.close()
