"""As much of AMQP 0-9-1 as a health endpoint needs: open a connection, log in, ask for a queue, leave."""

import socket
import struct

CONNECTION, CHANNEL, QUEUE = 10, 20, 50
FRAME_BYTES_MAX = 131072


def short_string(text):
    data = text.encode()
    return bytes([len(data)]) + data


def long_string(data):
    return struct.pack(">I", len(data)) + data


class Refused(Exception):
    """The broker answered, and closed the connection or the channel: code and text."""


class Connection:
    def __init__(self, host, port, timeout_s):
        self.socket = socket.create_connection((host, port), timeout=timeout_s)
        self.socket.settimeout(timeout_s)
        self.reader = self.socket.makefile("rb")
        self.socket.sendall(b"AMQP\x00\x00\x09\x01")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.reader.close()
        self.socket.close()

    def send(self, channel, kind, method, arguments=b""):
        payload = struct.pack(">HH", kind, method) + arguments
        self.socket.sendall(struct.pack(">BHI", 1, channel, len(payload)) + payload + b"\xce")

    def exactly(self, size):
        data = self.reader.read(size)
        if len(data) < size:
            raise ConnectionError("the broker closed the connection without an answer")
        return data

    def expect(self, kind, method):
        """The arguments of the next method, which must be that one; heartbeats are skipped."""
        while True:
            frame, _channel, size = struct.unpack(">BHI", self.exactly(7))
            if size > FRAME_BYTES_MAX:
                raise ValueError("a frame of %d bytes" % size)
            payload = self.exactly(size + 1)[:-1]
            if frame != 1:
                continue
            got = struct.unpack(">HH", payload[:4])
            if got == (kind, method):
                return payload[4:]
            if got in ((CONNECTION, 50), (CHANNEL, 40)):
                code, length = struct.unpack(">HB", payload[4:7])
                raise Refused("%d %s" % (code, payload[7:7 + length].decode("utf-8", "replace")))
            raise ValueError("method %d.%d instead of %d.%d" % (*got, kind, method))

    def greeting(self):
        """connection.start: the broker's first word, sent before any login."""
        self.expect(CONNECTION, 10)

    def log_in(self, user, password, vhost="/"):
        self.greeting()
        client = struct.pack(">I", 0)
        plain = long_string(b"\x00" + user.encode() + b"\x00" + password.encode())
        self.send(0, CONNECTION, 11, client + short_string("PLAIN") + plain + short_string("en_US"))
        channels, frame, _heartbeat = struct.unpack(">HIH", self.expect(CONNECTION, 30))
        self.send(0, CONNECTION, 31, struct.pack(">HIH", channels, frame, 0))
        self.send(0, CONNECTION, 40, short_string(vhost) + b"\x00\x00")
        self.expect(CONNECTION, 41)
        self.send(1, CHANNEL, 10, b"\x00")
        self.expect(CHANNEL, 11)

    def queue_length(self, queue):
        """Asks for a queue that must exist, and changes nothing (`passive`); messages that wait in it."""
        self.send(1, QUEUE, 10, b"\x00\x00" + short_string(queue) + b"\x01" + struct.pack(">I", 0))
        answer = self.expect(QUEUE, 11)
        return struct.unpack(">I", answer[1 + answer[0]:5 + answer[0]])[0]

    def leave(self):
        """Says good-bye, or the broker logs each probe as a client that was lost."""
        self.send(0, CONNECTION, 50, struct.pack(">H", 200) + short_string("done") + struct.pack(">HH", 0, 0))
        self.expect(CONNECTION, 51)
