"""What the worker's main process knows about itself, for its probes and for Prometheus.

A Celery worker can hang for hours on a broker that stopped answering, and look alive: its process runs, its port is
open. So the event loop marks each second that it went round, and what it heard from the broker. While the broker is
away the attempts to reconnect are the marks: a worker that tries is alive, and not ready.
"""

import threading
import time

from prometheus_client import Counter, Gauge, Histogram

STALLED_S = 20  # no turn of the loop, and no attempt to connect
SILENT_S = 25  # the broker sends something at least every 5 s (heartbeat of 10 s)
JOB_S = 120  # from delivery to its end; the time limit ends a job at 90 s, unless its process was stopped before it began

TASKS = Counter("celery_tasks", "Jobs that ended, by what became of them.", ["outcome"])
SECONDS = Histogram("celery_task_seconds", "Time a job ran.", buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100))
RECEIVED = Counter("celery_tasks_received", "Jobs delivered, again or for the first time.")
RUNNING = Gauge("celery_tasks_running", "Jobs delivered that have not ended.")
QUEUE = Gauge("celery_queue_messages_ready", "Jobs that wait in the queue, as this worker sees it.", ["queue"])
QUEUE_SEEN = Gauge("celery_queue_seen_timestamp_seconds", "When the queue was last seen.", ["queue"])
CONNECTED = Gauge("celery_broker_connected", "1 while the worker consumes.")
for outcome in ("done", "repeated", "failed", "requeued"):
    TASKS.labels(outcome)


class Watch:
    def __init__(self):
        self.lock = threading.Lock()
        self.state = "starting"
        self.turned = self.heard = time.monotonic()
        self.frames = None
        self.oldest_job_s = 0.0

    def connecting(self):
        """One attempt to reach the broker, or a second of the pause between two."""
        with self.lock:
            self.state, self.frames = "connecting", None
            self.turned = time.monotonic()
        CONNECTED.set(0)

    def turn(self, frames, jobs_since):
        """The event loop went round; `frames` received so far on this connection; when each open job was delivered."""
        now = time.monotonic()
        with self.lock:
            self.state, self.turned = "consuming", now
            if frames != self.frames:
                self.frames, self.heard = frames, now
            self.oldest_job_s = max((now - since for since in jobs_since), default=0.0)
        CONNECTED.set(1)
        RUNNING.set(len(jobs_since))

    def live(self):
        now = time.monotonic()
        with self.lock:
            if now - self.turned > STALLED_S:
                raise RuntimeError("hung: %s, no turn of the loop for %.0f s" % (self.state, now - self.turned))
            if self.oldest_job_s > JOB_S:
                raise RuntimeError("hung: a job was delivered %.0f s ago and has not ended" % self.oldest_job_s)
            if self.state == "consuming" and now - self.heard > 2 * SILENT_S:
                raise RuntimeError("hung: the broker is silent for %.0f s" % (now - self.heard))
            return self.state

    def ready(self):
        now = time.monotonic()
        with self.lock:
            if self.state != "consuming" or now - self.turned > 5:
                raise RuntimeError("%s, last turn %.0f s ago" % (self.state, now - self.turned))
            if now - self.heard > SILENT_S:
                raise RuntimeError("the broker is silent for %.0f s" % (now - self.heard))
            return "consuming, heard from the broker %.1f s ago" % (now - self.heard)


watch = Watch()
