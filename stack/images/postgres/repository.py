"""What is in the pgBackRest repository, and whether a database can be made from it.

pgBackRest itself is asked by `info`, `verify` and `repo-ls`. What it does not say is whether the archive has a hole:
recovery ends at a missing segment without an error, and the database would come up with less than it should.
"""

import json
import os
import re
import subprocess
import time

STANZA = os.environ.get("PGBACKREST_STANZA", "ai-platform")
SEGMENTS_A_FILE = 0x100  # of 16 MB: 256 of them under one middle part of the name
SEGMENT = re.compile(r"^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})-[0-9a-f]{40}(?:\.\w+)?$")
HISTORY = re.compile(r"^([0-9A-F]{8})\.history$")


class Bad(Exception):
    """The repository cannot give what is asked of it."""


def say(text):
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text, flush=True)


def run(*words, deadline_s=60, quiet=False):
    """pgBackRest's standard output; what it logs goes on to ours."""
    command = ["pgbackrest", *words]
    if not quiet:
        say("$ " + " ".join(command))
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE if quiet else None,
                              timeout=deadline_s, text=True)
    except subprocess.TimeoutExpired:
        raise Bad("pgbackrest %s has not ended within %d s" % (words[-1], deadline_s)) from None
    if done.returncode != 0:
        raise Bad("pgbackrest %s ended with %d %s" % (words[-1], done.returncode, (done.stderr or "").strip()))
    return done.stdout


def info(quiet=True):
    """The stanza as `pgbackrest info` tells it."""
    stanzas = json.loads(run("--stanza=" + STANZA, "--output=json", "info", quiet=quiet))
    found = [stanza for stanza in stanzas if stanza["name"] == STANZA]
    if not found:
        raise Bad("the repository has no stanza %s" % STANZA)
    return found[0]


def exists(stanza):
    return any(database["repo-key"] for database in stanza.get("db", []))


def whole_backups(stanza):
    """Backups without an error, the oldest first."""
    status = stanza["status"]
    if status["code"] != 0:
        raise Bad("the stanza's status is %s: %s" % (status["code"], status["message"]))
    return [backup for backup in stanza["backup"] if not backup.get("error")]


def archive():
    """Names of what is archived: segments by timeline, as numbers, and the timelines whose history is there."""
    listing = json.loads(run("--output=json", "--recurse", "repo-ls", "archive/" + STANZA, quiet=True))
    segments, histories = {}, {}
    for path, entry in listing.items():
        name = path.rsplit("/", 1)[-1]
        if entry.get("type") != "file":
            continue
        if match := SEGMENT.match(name):
            timeline, number = position(match[1] + match[2] + match[3])
            segments.setdefault(timeline, set()).add(number)
        elif match := HISTORY.match(name):
            histories[int(match[1], 16)] = path
    return segments, histories


def position(name):
    """Timeline and running number of a segment."""
    return int(name[:8], 16), int(name[8:16], 16) * SEGMENTS_A_FILE + int(name[16:24], 16)


def name_of(timeline, number):
    return "%08X%08X%08X" % (timeline, number // SEGMENTS_A_FILE, number % SEGMENTS_A_FILE)


def parents(history):
    """Where a timeline came from, by the text of its history file: (parent, segment of the fork), the oldest first."""
    forks = []
    for line in history.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0].isdigit() and "/" in words[1]:
            high, low = (int(part, 16) for part in words[1].split("/"))
            forks.append((int(words[0]), high * SEGMENTS_A_FILE + low // 0x1000000))
    return forks


def holes(segments, forks, last, start):
    """Segments that recovery from `start` along a timeline needs and the archive lacks, up to its newest one.

    `forks` are the timeline's ancestors. The segment of a fork is there as a copy on the new timeline; a primary that was
    lost need not have archived its own.
    """
    first_timeline, number = position(start)
    line = [fork for fork in forks if fork[0] >= first_timeline] + [(last, max(segments.get(last, {0})) + 1)]
    missing = []
    for timeline, end in line:
        missing += [name_of(timeline, one) for one in range(number, end) if one not in segments.get(timeline, set())]
        number = max(number, end)
    return missing


class Line:
    """The archive seen from one timeline: its ancestors, and what of each is archived."""

    def __init__(self, timeline=None):
        self.segments, histories = archive()
        newest = max([1, *histories, *self.segments])
        self.timeline = timeline or newest
        self.forks = []
        if self.timeline in histories:
            path = "archive/%s/%s" % (STANZA, histories[self.timeline])
            self.forks = parents(run("repo-get", path, quiet=True))
        elif self.timeline not in self.segments:
            raise Bad("timeline %d is not in the archive" % self.timeline)

    def carries(self, backup):
        """Is this backup a point of the line? Not when it was taken on a branch, or after the line had left its own."""
        base, stop = position(backup["archive"]["stop"])
        return base == self.timeline or any(parent == base and stop <= fork for parent, fork in self.forks)

    def end(self):
        """The newest segment; the fork itself while nothing of the timeline is archived."""
        forked = [fork for _, fork in self.forks]
        return max([*self.segments.get(self.timeline, ()), *forked, 0])

    def check(self, backup):
        """Raises when recovery from this backup would end before the newest archived write; returns where that is."""
        if not self.carries(backup):
            raise Bad("backup %s is not on the line of timeline %d" % (backup["label"], self.timeline))
        missing = holes(self.segments, self.forks, self.timeline, backup["archive"]["start"])
        if missing:
            raise Bad("the archive has a hole: recovery from backup %s would end before %d missing segments, %s …" % (
                backup["label"], len(missing), ", ".join(missing[:5])))
        return name_of(self.timeline, self.end())
