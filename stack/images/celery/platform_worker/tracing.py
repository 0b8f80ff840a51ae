"""One span a job, reported to Zipkin: from a bounded queue, on a thread of its own, lost when Zipkin is away."""

import json
import os
import queue
import re
import secrets
import threading
import time
import urllib.request

URL = os.environ.get("ZIPKIN_URL", "")
QUEUE_MAX, BATCH_MAX, ANSWER_S = 200, 50, 2
TRACEPARENT = re.compile(r"^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$")

waiting = queue.Queue(QUEUE_MAX)
reporter = None


class Span:
    """Continues the trace of the request that caused the job, or starts one."""

    def __init__(self, name, traceparent, tags):
        match = TRACEPARENT.match(traceparent or "")
        self.sampled = not match or int(match[3], 16) & 1 == 1
        self.begun = time.time()
        self.span = {
            "traceId": match[1] if match else secrets.token_hex(16),
            "id": secrets.token_hex(8),
            "name": name,
            "kind": "CONSUMER",
            "timestamp": int(self.begun * 1e6),
            "localEndpoint": {"serviceName": "celery"},
            "remoteEndpoint": {"serviceName": "rabbitmq"},
            "tags": tags,
        }
        if match:
            self.span["parentId"] = match[2]

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        self.span["duration"] = max(1, int((time.time() - self.begun) * 1e6))
        if error is not None:
            self.span["tags"]["error"] = "%s: %s" % (kind.__name__, error)
        if URL and self.sampled:
            report(self.span)


def report(span):
    global reporter
    if reporter is None:  # not before the first job: threads do not survive the fork of a worker process
        reporter = threading.Thread(target=send_all, daemon=True)
        reporter.start()
    try:
        waiting.put_nowait(span)
    except queue.Full:
        pass


def send_all():
    url = URL if URL.endswith("/api/v2/spans") else URL.rstrip("/") + "/api/v2/spans"
    while True:
        spans = [waiting.get()]
        while len(spans) < BATCH_MAX and not waiting.empty():
            spans.append(waiting.get_nowait())
        request = urllib.request.Request(url, json.dumps(spans).encode(), {"Content-Type": "application/json"})
        try:
            urllib.request.urlopen(request, timeout=ANSWER_S).close()
        except OSError:
            pass
