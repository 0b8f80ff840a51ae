"""Where Celery's own classes are told what this platform needs: each change is as small as it can be."""

import time

from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Task
from celery.exceptions import Reject
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.request import Request as CeleryRequest
from kombu.transport.pyamqp import Transport as AmqpTransport

from .watch import RECEIVED, SECONDS, TASKS, watch

logger = get_logger(__name__)


class Transport(AmqpTransport):
    """Quorum queues know a prefetch for each consumer only; Celery 5.2 asks for one for the whole channel."""

    def qos_semantics_matches_spec(self, connection):
        return True


class Consumer(CeleryConsumer):
    """Says that it goes round, and is back soon after the broker is (Celery's own pauses grow to 30 s)."""

    def ensure_connected(self, conn):
        def failed(error, pause_s):
            logger.error("broker: %s; again in %.1f s", error, pause_s)

        def waiting():
            watch.connecting()
            state.maybe_shutdown()

        watch.connecting()
        return conn.ensure_connection(
            failed, None, interval_start=0.5, interval_step=0.5, interval_max=4, callback=waiting
        )

    def register_with_event_loop(self, hub):
        super().register_with_event_loop(hub)
        hub.timer.call_repeatedly(1.0, self.turn)

    def turn(self):
        connection = self.connection and self.connection.connection
        if connection is not None:
            now = time.monotonic()
            watch.turn(connection.bytes_recv, [getattr(r, "delivered", now) for r in list(state.reserved_requests)])


class Request(CeleryRequest):
    """A job in the main process. It is acknowledged when its transaction is committed, and only then."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.delivered = time.monotonic()
        RECEIVED.inc()
        # Celery makes a class of this one, whose own `on_success` takes no detour over its base: so on the object
        finish = self.on_success

        def count_and_finish(failed__retval__runtime, **kwargs):
            finish(failed__retval__runtime, **kwargs)
            failed, outcome, runtime = failed__retval__runtime
            if not failed:
                TASKS.labels(outcome.strip("'")).inc()  # it comes as its own repr
                SECONDS.observe(runtime)

        self.on_success = count_and_finish

    def on_failure(self, exc_info, send_failed_event=True, return_ok=False):
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if isinstance(error, TimeLimitExceeded):
            # its process was stuck, which says nothing about the job; the queue's delivery limit ends the attempts
            state.task_ready(self)
            self.reject(requeue=True)
            TASKS.labels("requeued").inc()
            return
        super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
        TASKS.labels("requeued" if isinstance(error, (WorkerLostError, Reject)) else "failed").inc()

    def on_timeout(self, soft, timeout):
        logger.error("job %s ran for its time limit of %s s; its process is killed", self.id, timeout)


class Job(Task):
    Request = Request
