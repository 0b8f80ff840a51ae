"""What backup and restore of the Redis Cluster share: its protocol in bytes, who owns which slot, and a whole backup."""

import binascii
import glob
import hashlib
import json
import os
import socket
import subprocess
import time

PORT, SLOTS = 6379, 16384
ANSWER_S = 10
ROOT = os.environ.get("BACKUP_ROOT", "/var/lib/backup/redis")
ENTRY = os.environ.get("REDIS_ENTRY", "ai-platform-redis-pods")


class Bad(Exception):
    """The backup or the cluster is not what it must be."""


def say(text):
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text, flush=True)


class Connection:
    """One server; commands go out together, replies come back in order. An error is returned, not raised."""

    def __init__(self, where):
        if where.startswith("/"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(ANSWER_S)
            self.socket.connect(where)
        else:
            self.socket = socket.create_connection((where.encode(), PORT), timeout=ANSWER_S)
        self.replies = self.socket.makefile("rb")

    def send(self, commands):
        out = []
        for words in commands:
            out.append(b"*%d\r\n" % len(words))
            for word in words:
                word = word if isinstance(word, bytes) else str(word).encode()
                out.append(b"$%d\r\n%s\r\n" % (len(word), word))
        self.socket.sendall(b"".join(out))
        return [self._read() for _ in commands]

    def ask(self, *words):
        reply = self.send([words])[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _read(self):
        line = self.replies.readline()
        if not line.endswith(b"\r\n"):
            raise Bad("the connection was closed in the middle of a reply")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return Bad(rest.decode("utf-8", "replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.replies.read(int(rest) + 2)[:-2]
        return [self._read() for _ in range(int(rest))]

    def close(self):
        self.replies.close()
        self.socket.close()


def slot(key):
    """Of a key; only what is between the first braces counts, when there is something."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1:end]
    return binascii.crc_hqx(key, 0) % SLOTS


def owners():
    """Address of each primary with the slots that it owns; all slots, or it is an error."""
    connection = Connection(ENTRY)
    try:
        text = connection.ask("CLUSTER", "NODES").decode()
    finally:
        connection.close()
    found = {}
    for line in text.splitlines():
        word = line.split()
        flags = set(word[2].split(","))
        if "master" not in flags or len(word) < 9:
            continue
        if flags & {"fail", "fail?", "noaddr", "handshake"}:
            raise Bad("primary %s owns slots and is %s" % (word[1], word[2]))
        ranges = [one.split("-") for one in word[8:] if not one.startswith("[")]
        found[word[1].partition(":")[0]] = [(int(one[0]), int(one[-1])) for one in ranges]
    covered = sum(last - first + 1 for ranges in found.values() for first, last in ranges)
    if covered != SLOTS:
        raise Bad("%d of %d slots have an owner" % (covered, SLOTS))
    return found


def digest(path):
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            whole.update(block)
    return whole.hexdigest()


def check_rdb(path):
    """Redis' own judgement of a dump; returns how many keys are in it."""
    done = subprocess.run(["redis-check-rdb", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
    if done.returncode != 0:
        raise Bad("redis-check-rdb refuses %s: %s" % (path, done.stdout.strip()[-500:]))
    counts = [int(line.split()[-3]) for line in done.stdout.splitlines() if line.endswith("keys read")]
    if len(counts) != 1:
        raise Bad("redis-check-rdb does not say how many keys are in %s" % path)
    return counts[0]


def check(directory):
    """A backup as a whole: every dump there, as it was written, readable, and together all slots. Its manifest."""
    try:
        with open(os.path.join(directory, "manifest.json")) as file:
            manifest = json.load(file)
    except OSError as error:
        raise Bad("no backup is in %s: %s" % (directory, error)) from None
    covered = 0
    for shard in manifest["shards"]:
        path = os.path.join(directory, shard["file"])
        if not os.path.exists(path) or digest(path) != shard["sha256"]:
            raise Bad("%s is missing, or not what was written" % path)
        if check_rdb(path) != shard["keys"]:
            raise Bad("%s has not the %d keys that it had" % (path, shard["keys"]))
        covered += sum(last - first + 1 for first, last in shard["slots"])
    if covered != SLOTS:
        raise Bad("the backup has %d of %d slots" % (covered, SLOTS))
    return manifest


def backups():
    """Whole backups, the oldest first. (One that is being written has another name.)"""
    return sorted(glob.glob(os.path.join(ROOT, "2*")))
