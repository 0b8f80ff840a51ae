"""The few calls of the Kubernetes API that a restore makes, with the pod's own service account."""

import http.client
import json
import os
import ssl

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/"
ANSWER_S = 10


class Refused(Exception):
    """The API answered, with an error."""

    def __init__(self, status, text):
        super().__init__("the Kubernetes API says %d: %s" % (status, text))
        self.status = status


def call(method, path, body=None, kind="application/merge-patch+json"):
    """One request; the answer's JSON."""
    host = os.environ["KUBERNETES_SERVICE_HOST"]
    trust = ssl.create_default_context(cafile=ACCOUNT + "ca.crt")
    connection = http.client.HTTPSConnection(host, int(os.environ.get("KUBERNETES_SERVICE_PORT", "443")),
                                             timeout=ANSWER_S, context=trust)
    try:
        with open(ACCOUNT + "token") as token:
            headers = {"Authorization": "Bearer " + token.read(), "Accept": "application/json", "Content-Type": kind}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status >= 300:
            raise Refused(answer.status, text[:300])
        return json.loads(text)
    finally:
        connection.close()


def namespace():
    with open(ACCOUNT + "namespace") as file:
        return file.read().strip()
