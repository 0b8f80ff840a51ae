"""Starts the worker: `python3 -m platform_worker`."""

import os
import sys
import threading
import time
import warnings
from urllib.parse import quote

import kombu.transport
import node
from celery import Celery
from celery.exceptions import CPendingDeprecationWarning, Reject
from kombu import Connection, Queue
from prometheus_client import start_http_server

from . import store
from .infer import infer
from .tracing import Span
from .watch import QUEUE, QUEUE_SEEN, watch
from .worker import Job

QUEUE_NAME = "inference.jobs"
HEARTBEAT_S, CONNECT_S, READ_S = 10, 4, 15
TIME_LIMIT_S = 90
DATABASE_PATIENCE_S = 60  # then the job goes back to the queue
LOOK_S = 10

BROKER = "amqp://ai_user:%s@%s//" % (quote(node.secret("RABBITMQ_PASSWORD"), safe=""), node.secret("RABBITMQ_ADDRESS"))
WORKER = os.environ.get("POD_NAME", "worker")
# How long a computation takes: the function itself is done at once, a real model's is not.
COMPUTE_S = int(os.environ.get("INFERENCE_MS", "0")) / 1000

kombu.transport.TRANSPORT_ALIASES["amqp"] = "platform_worker.worker:Transport"
warnings.simplefilter("ignore", CPendingDeprecationWarning)

app = Celery("platform", task_cls=Job, set_as_current=True)
app.conf.update(
    broker_url=BROKER,
    broker_heartbeat=HEARTBEAT_S,
    broker_connection_timeout=CONNECT_S,
    # an answer that never comes ends the connection, not the worker
    broker_transport_options={"read_timeout": READ_S, "write_timeout": READ_S},
    # RabbitMQ's own definitions make the queue: the worker may not, and need not
    task_queues=[Queue(QUEUE_NAME, no_declare=True)],
    task_default_queue=QUEUE_NAME,
    task_create_missing_queues=False,
    accept_content=["json"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    # a job that raises goes to the dead letters
    task_acks_on_failure_or_timeout=False,
    task_ignore_result=True,
    task_time_limit=TIME_LIMIT_S,
    worker_prefetch_multiplier=1,
    worker_proc_alive_timeout=30,
    worker_lost_wait=2,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_redirect_stdouts=False,
    worker_consumer="platform_worker.worker:Consumer",
    worker_log_format="%(asctime)s %(levelname)s %(message)s",
)


@app.task(name="platform.infer")
def run(op_id, model_id, value, traceparent=None):
    """Computes and stores one job; runs in a worker process, perhaps more than once for one job."""
    with Span("platform.infer", traceparent, {"op_id": op_id, "worker": WORKER}):
        time.sleep(COMPUTE_S)
        output = infer(model_id, value)
        try:
            return store.save(op_id, model_id, value, output, WORKER, DATABASE_PATIENCE_S)
        except store.Away as error:
            raise Reject(str(error), requeue=True) from error


def look_at_the_queue():
    """On a connection of its own, so that a worker that hangs does not hide how many jobs wait."""
    options = {"read_timeout": CONNECT_S, "write_timeout": CONNECT_S}
    while True:
        try:
            with Connection(BROKER, connect_timeout=CONNECT_S, transport_options=options) as connection:
                while True:
                    answer = connection.default_channel.queue_declare(QUEUE_NAME, passive=True)
                    QUEUE.labels(QUEUE_NAME).set(answer.message_count)
                    QUEUE_SEEN.labels(QUEUE_NAME).set_to_current_time()
                    time.sleep(LOOK_S)
        except Exception:  # the worker itself tells of a broker that is away
            time.sleep(LOOK_S)


def main():
    health_port = int(os.environ.get("HEALTH_PORT", "8009"))
    checks = {"live": watch.live, "ready": watch.ready}
    threading.Thread(target=node.serve, args=(health_port, checks), daemon=True).start()
    threading.Thread(target=look_at_the_queue, daemon=True).start()
    start_http_server(int(os.environ.get("METRICS_PORT", "9808")))
    sys.exit(app.worker_main([
        "worker", "--pool=prefork", "--concurrency=%s" % os.environ.get("CELERY_CONCURRENCY", "2"),
        "--hostname=%s" % WORKER, "--loglevel=INFO", "--queues=%s" % QUEUE_NAME,
        "--without-mingle", "--without-gossip", "--without-heartbeat",
    ]))


if __name__ == "__main__":
    main()
