"""As much of ZooKeeper's own protocol as a broker's start needs: is there a node of this name?"""

import socket
import struct

SESSION_MS = 4000
EXISTS, CLOSE = 3, -11
OK, NO_NODE = 0, -101
ANSWER_BYTES_MAX = 1 << 20


def text(value):
    data = value.encode()
    return struct.pack(">i", len(data)) + data


def frame(connection, body):
    connection.sendall(struct.pack(">i", len(body)) + body)


def answer(reader):
    head = reader.read(4)
    size = struct.unpack(">i", head)[0] if len(head) == 4 else -1
    if not 0 <= size <= ANSWER_BYTES_MAX:
        raise ConnectionError("zookeeper closed the connection without an answer")
    return reader.read(size)


def exists(server, path, timeout_s):
    """Asks one server, in a session of its own that is closed again."""
    host, _, port = server.rpartition(":")
    with socket.create_connection((host.encode(), int(port)), timeout=timeout_s) as connection:
        connection.settimeout(timeout_s)
        with connection.makefile("rb") as reader:
            frame(connection, struct.pack(">iqiq", 0, 0, SESSION_MS, 0) + struct.pack(">i16s?", 16, b"", False))
            answer(reader)
            frame(connection, struct.pack(">ii", 1, EXISTS) + text(path) + b"\x00")
            _xid, _zxid, error = struct.unpack(">iqi", answer(reader)[:16])
            frame(connection, struct.pack(">ii", 2, CLOSE))
            answer(reader)
    if error not in (OK, NO_NODE):
        raise RuntimeError("zookeeper answers with error %d" % error)
    return error == OK
