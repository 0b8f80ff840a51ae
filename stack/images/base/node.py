"""What every server image of the stack shares: a health endpoint that proves more than an open port.

A stopped (SIGSTOP) server still *accepts* connections: the kernel completes the handshake. So a TCP probe cannot tell
hung from healthy. An exec probe can, but costs a process in the container each time. Here a small process beside the
server speaks the server's own protocol and answers the kubelet over HTTP:

    /live   the server answered its own protocol within a second and a half. Fails only when it is hung (or frozen).
            Slow, loading, recovering, refusing because its supervisor is at work: all alive.
    /ready  it can do its work now: role, replication, cluster state.

When this process dies the probes fail and the kubelet restarts the container; when the server dies, process 1
(catatonit) exits and the whole container goes.
"""

import os
import socket
import sys
import threading
import time

ANSWER_S = 1.5  # how long a server may take to answer; the manifests' probe timeouts are longer


def log(text):
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "node:", text, file=sys.stderr, flush=True)


def secret(name):
    """A value from the environment that may not be missing."""
    value = os.environ.get(name, "")
    if not value:
        sys.exit("environment variable %s is not set" % name)
    return value


def beside_server(work):
    """Run work() in a process that is no child of the server: forked twice, so process 1 adopts it."""
    if os.fork() == 0:
        if os.fork() == 0:
            try:
                work()
            finally:
                os._exit(1)
        os._exit(0)
    os.wait()


def serve(port, checks):
    """Answer GET /<name> with checks[name](): 200 and its text, or 503 and the reason it raised."""
    listener = socket.create_server(("", port), backlog=16, reuse_port=False)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_answer, args=(connection, checks), daemon=True).start()


def _answer(connection, checks):
    try:
        with connection:
            connection.settimeout(5)
            request = connection.recv(2048).split()
            name = request[1].decode("ascii", "replace").lstrip("/") if len(request) > 1 else ""
            try:
                status, text = "200 OK", checks[name]()
            except KeyError:
                status, text = "404 Not Found", "no such check"
            except Exception as error:
                status, text = "503 Service Unavailable", "%s: %s" % (type(error).__name__, error)
            body = (text + "\n").encode()
            connection.sendall(
                b"HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
                % (status.encode(), len(body), body)
            )
    except OSError:
        pass


def postgres_protocol_answers(port):
    """Ask for TLS, the first message of PostgreSQL's protocol; any answer proves that the server serves.

    The postmaster must fork for this answer, so a stopped postmaster fails it even while old sessions go on.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as connection:
        connection.settimeout(ANSWER_S)
        connection.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")
        if connection.recv(1) not in (b"N", b"S", b"E"):
            raise ConnectionError("the server closed the connection without an answer")
