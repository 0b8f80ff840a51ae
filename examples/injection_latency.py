#!/usr/bin/env python3
"""How long from a tool's start until its target is dead, and until the replacement serves: mettle, kubectl and Chaos Toolkit,
turn by turn on the same cluster, the same Deployment, and told by the same observer.

    mettle up
    python3 -m venv /tmp/chaos && /tmp/chaos/bin/pip install chaostoolkit chaostoolkit-kubernetes
    examples/injection_latency.py --rounds 20 --chaos /tmp/chaos/bin/chaos

The observer connects to the pod's own address every 2 ms: the target is dead when a connection is refused, reset or not taken
within 50 ms; the replacement serves when the service's new pod answers. Times in ms; medians and maxima.
"""
import argparse, json, os, pathlib, socket, statistics, subprocess, tempfile, threading, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAME, NAMESPACE = "mettle-bench", "ai-platform"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--cluster", default="mettle")
    parser.add_argument("--mettle", default=str(ROOT / "mettle"))
    parser.add_argument("--chaos", help="Chaos Toolkit's program; left out when absent")
    return parser.parse_args()


ARGS = arguments()
STATE = pathlib.Path("/var/lib/mettle") / ARGS.cluster
KUBECONFIG = str(STATE / "kubeconfig")
KUBECTL = [str(STATE / "bin/kubectl"), "--kubeconfig", KUBECONFIG, "-n", NAMESPACE]
ENVIRONMENT = {**os.environ, "KUBECONFIG": KUBECONFIG}


def kubectl(*words, text=None):
    done = subprocess.run(KUBECTL + list(words), input=text, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise SystemExit(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def target():
    """A Deployment of one pod that serves: the backend's image in its smallest role."""
    backend = json.loads(kubectl("get", "deployment", "ai-platform-frontend", "-o", "json"))
    image = backend["spec"]["template"]["spec"]["containers"][0]["image"]
    labels = {"app": NAME}
    container = {
        "name": "bench", "image": image, "imagePullPolicy": "IfNotPresent", "args": ["frontend"],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1},
        "ports": [{"containerPort": 8080}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {"automountServiceAccountToken": False, "containers": [container], "terminationGracePeriodSeconds": 5,
           "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME, "labels": labels},
                  "spec": {"replicas": 1, "selector": {"matchLabels": labels},
                           "template": {"metadata": {"labels": labels}, "spec": pod}}}
    # from this machine, and only to this pod
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": NAME, "labels": labels},
              "spec": {"podSelector": {"matchLabels": labels}, "ingress": [{}]}}
    for one in (deployment, policy):
        kubectl("apply", "-f", "-", text=json.dumps(one))


def pod():
    """Name, uid and address of the one pod that is Ready and stays."""
    while True:
        items = json.loads(kubectl("get", "pods", "-l", f"app={NAME}", "-o", "json"))["items"]
        for item in items:
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in item["status"].get("conditions", []))
            if ready and "deletionTimestamp" not in item["metadata"] and len(items) == 1:
                return item["metadata"]["name"], item["metadata"]["uid"], item["status"]["podIP"]
        time.sleep(0.1)


def alive(address):
    try:
        with socket.create_connection((address, 8080), 0.05) as connection:
            connection.settimeout(0.05)
            connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            return bool(connection.recv(1))
    except OSError:
        return False


def observed(start):
    """Starts a tool; ms from its start until the target is dead, until the replacement serves, and until the tool is done."""
    name, uid, address = pod()
    assert alive(address), "the target does not serve"
    began = time.monotonic()
    process = start(name)
    while alive(address):
        time.sleep(0.002)
        assert time.monotonic() - began < 60, "the target did not die"
    dead = time.monotonic() - began
    end = threading.Thread(target=process.wait)
    end.start()
    while True:
        items = json.loads(kubectl("get", "pods", "-l", f"app={NAME}", "-o", "json"))["items"]
        new = [i["status"].get("podIP") for i in items if i["metadata"]["uid"] != uid]
        if any(ip and alive(ip) for ip in new):
            break
    serves = time.monotonic() - began
    end.join(120)
    done = time.monotonic() - began
    if process.returncode:
        raise SystemExit(f"{process.args}: exit {process.returncode}")
    return dead * 1000, serves * 1000, done * 1000


def quiet(words):
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)


def with_kubectl(name):
    return quiet(KUBECTL + ["delete", "pod", name, "--grace-period=0", "--force", "--wait=false"])


def with_chaos(directory):
    action = {"type": "action", "name": "kill", "provider": {
        "type": "python", "module": "chaosk8s.pod.actions", "func": "terminate_pods",
        "arguments": {"label_selector": f"app={NAME}", "ns": NAMESPACE, "qty": 1, "rand": True, "grace_period": 0}}}
    path = directory / "experiment.json"
    path.write_text(json.dumps({"version": "1.0.0", "title": "bench", "description": "bench", "method": [action]}))
    journal = str(directory / "journal.json")
    return lambda _: quiet([ARGS.chaos, "run", "--journal-path", journal, str(path)])


def with_mettle(directory, rows):
    path = directory / "rehearsal.yaml"
    path.write_text(f"rehearsal: bench\nlimits: {{ pods: 1 }}\nfaults:\n  - {{ kind: pod-kill, target: {{ labels: {{ app: {NAME} }} }} }}\n")
    out = directory / "rows.json"
    words = [ARGS.mettle, "rehearse", str(path), "--name", ARGS.cluster, "--out", str(out)]

    def start(_):
        process = quiet(words)
        wait = process.wait

        def ended():
            code = wait()
            rows.extend(json.loads(out.read_text()))
            return code

        process.wait = ended
        return process

    return start


def main():
    target()
    rows, figures = [], {}
    try:
        with tempfile.TemporaryDirectory() as directory:
            directory = pathlib.Path(directory)
            tools = {"kubectl delete": with_kubectl, "mettle rehearse": with_mettle(directory, rows)}
            if ARGS.chaos:
                tools["chaos run terminate_pods"] = with_chaos(directory)
            for round in range(ARGS.rounds):
                for name, start in tools.items():
                    figures.setdefault(name, []).append(observed(start))
                print(f"round {round + 1}/{ARGS.rounds}", flush=True)
    finally:
        kubectl("delete", "deployment,networkpolicy", NAME, "--ignore-not-found", "--wait=true")
    print(f"\n{'tool':<28}{'start → dead':>20}{'dead → replaced':>20}{'start → done':>20}   median (max), ms, n = {ARGS.rounds}")
    for name, all in figures.items():
        columns = [[dead for dead, _, _ in all], [serves - dead for dead, serves, _ in all], [done for _, _, done in all]]
        print(f"{name:<28}" + "".join(f"{statistics.median(c):>12.0f} ({max(c):.0f})" for c in columns))
    for field, what in (("applied_ms", "decision → API answered"), ("effective_ms", "decision → effect seen"), ("reverted_ms", "revert → all back")):
        values = [row[field] for row in rows if row.get(field) is not None]
        print(f"mettle, its own clock: {what}: {statistics.median(values):.0f} ({max(values)})")


main()
