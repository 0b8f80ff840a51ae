"""As much of Kafka's own protocol as a health endpoint needs: ApiVersions, Metadata, CreateTopics.

The versions are old ones that Kafka 3.9 still speaks, whose encoding has no tagged fields.
"""

import itertools
import socket
import struct

METADATA, API_VERSIONS, CREATE_TOPICS = 3, 18, 19
TOPIC_ALREADY_EXISTS, NOT_CONTROLLER = 36, 41
ANSWER_BYTES_MAX = 16 * 1024 * 1024

numbers = itertools.count(1)


def string(text):
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def array(items):
    return struct.pack(">i", len(items)) + b"".join(items)


class Reader:
    """Reads the big-endian fields of an answer one after the other."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        size = struct.calcsize(form)
        if self.at + size > len(self.data):
            raise ValueError("an answer ends in the middle of a field")
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += size
        return value

    def int16(self):
        return self.take(">h")

    def int32(self):
        return self.take(">i")

    def bool(self):
        return self.take(">?")

    def string(self):
        size = self.int16()
        if size < 0:
            return None
        self.at += size
        return self.data[self.at - size:self.at].decode("utf-8", "replace")

    def array(self, read):
        return [read() for _ in range(self.int32())]


def exactly(connection, size):
    data = b""
    while len(data) < size:
        part = connection.recv(min(size - len(data), 65536))
        if not part:
            raise ConnectionError("the broker closed the connection without an answer")
        data += part
    return data


def ask(host, port, timeout_s, api, version, body):
    """One request on a connection of its own; a Reader over the answer's body."""
    number = next(numbers) & 0x7FFFFFFF
    request = struct.pack(">hhi", api, version, number) + string("node") + body
    with socket.create_connection((host, port), timeout=timeout_s) as connection:
        connection.settimeout(timeout_s)
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", exactly(connection, 4))
        if not 4 <= size <= ANSWER_BYTES_MAX:
            raise ValueError("an answer of %d bytes" % size)
        reader = Reader(exactly(connection, size))
    if reader.int32() != number:
        raise ValueError("the answer to another request")
    return reader


def api_versions(host, port, timeout_s):
    """How many requests the broker knows; any answer proves that its network and request threads run."""
    reader = ask(host, port, timeout_s, API_VERSIONS, 0, b"")
    error = reader.int16()
    if error:
        raise RuntimeError("ApiVersions is answered with error %d" % error)
    return reader.int32()


class Metadata:
    """Brokers by id, the controller's id, and for each topic a list of (partition, leader, replicas, in-sync)."""

    def __init__(self, reader):
        self.brokers = {}
        for _ in range(reader.int32()):
            broker, host, port, _rack = reader.int32(), reader.string(), reader.int32(), reader.string()
            self.brokers[broker] = (host, port)
        self.controller = reader.int32()
        self.topics = {}
        for _ in range(reader.int32()):
            error, name, _internal = reader.int16(), reader.string(), reader.bool()
            partitions = reader.array(lambda: self.partition(reader))
            if not error:
                self.topics[name] = partitions

    @staticmethod
    def partition(reader):
        reader.int16()
        return reader.int32(), reader.int32(), reader.array(reader.int32), reader.array(reader.int32)


def metadata(host, port, timeout_s):
    """Of every topic."""
    return Metadata(ask(host, port, timeout_s, METADATA, 1, struct.pack(">i", -1)))


def create_topic(host, port, timeout_s, name, partitions, replicas, settings):
    """Asks the controller; the error code, 0 for done."""
    pairs = array([string(key) + string(value) for key, value in settings])
    topic = string(name) + struct.pack(">ih", partitions, replicas) + array([]) + pairs
    body = array([topic]) + struct.pack(">i?", int(timeout_s * 1000), False)
    reader = ask(host, port, timeout_s + 1, CREATE_TOPICS, 1, body)
    answers = reader.array(lambda: (reader.string(), reader.int16(), reader.string()))
    return next(((error, text) for topic, error, text in answers if topic == name), (-1, "no answer"))
