"""The result of a job and its count, in one transaction: both or none, and once, however often the job is delivered."""

import json
import os
import random
import time

import psycopg2

DONE, REPEATED = "done", "repeated"
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.2, 5.0

INSERT = (
    "INSERT INTO inferences (op_id, model_id, input, output, worker) VALUES (%s, %s, %s, %s, %s) "
    "ON CONFLICT (op_id) DO NOTHING"
)
COUNT = (
    "INSERT INTO inference_counts (model_id, done) VALUES (%s, 1) "
    "ON CONFLICT (model_id) DO UPDATE SET done = inference_counts.done + 1"
)

connection = None  # one for each worker process, made at its first job


class Away(Exception):
    """The database could not be used for as long as a job may wait."""


def connect():
    # a dead peer is noticed by the kernel; a stopped one by the job's time limit
    return psycopg2.connect(
        os.environ["DATABASE_URL"], password=os.environ["DATABASE_PASSWORD"], connect_timeout=3,
        keepalives_idle=5, keepalives_interval=1, keepalives_count=3, tcp_user_timeout=5000,
    )


def drop():
    global connection
    try:
        if connection is not None:
            connection.close()
    except psycopg2.Error:
        pass
    connection = None


def write(op_id, model_id, value, output, worker):
    global connection
    if connection is None:
        connection = connect()
    with connection, connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '5s'")
        cursor.execute(INSERT, (op_id, model_id, json.dumps(value), json.dumps(output), worker))
        inserted = cursor.rowcount == 1
        if inserted:
            cursor.execute(COUNT, (model_id,))
    return DONE if inserted else REPEATED


def save(op_id, model_id, value, output, worker, patience_s):
    """Writes; while the database is away, tries again with growing pauses. DataError and IntegrityError are the job's."""
    end = time.monotonic() + patience_s
    pause = BACKOFF_FIRST_S
    while True:
        try:
            return write(op_id, model_id, value, output, worker)
        except (psycopg2.DataError, psycopg2.IntegrityError):
            drop()
            raise
        except psycopg2.Error as error:
            # a commit whose answer was lost may have happened: the next attempt then finds its row
            drop()
            if time.monotonic() + pause > end:
                raise Away("the database is away: %s" % str(error).strip()) from error
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, BACKOFF_MAX_S)
