"""A Kubernetes cluster of this machine's processes: all that decides is real, and nothing is run.

There are no nodes and no containers: a pod is an object in the API server, whose status kubelet.py writes. Admission,
the scheduler, the StatefulSet's controller and that of the disruption budget see no difference.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.brokers.ports import free_ports
from tests.brokers.process import Process
from tests.deployment import until
from tests.kubernetes.cluster import UP_WITHIN_S, Cluster, Resource
from tests.kubernetes.kubelet import Kubelet

NODES = ("node-0", "node-1", "node-2")


@contextmanager
def running(programs: Path, directory: Path) -> Iterator[Cluster]:
    """A cluster with three empty nodes.

    Args:
        programs: see `programs.programs`.
        directory: empty; for its data and its logs.
    """
    processes: list[Process] = []
    with ExitStack() as stack:

        def start(name: str, *flags: str) -> None:
            processes.append(Process([programs / name, *flags], directory / f"{name}.log"))
            stack.callback(processes[-1].kill)

        etcd, peer, api, controllers, scheduler = free_ports(5)
        start("etcd", *_etcd_flags(directory, f"http://127.0.0.1:{etcd}", f"http://127.0.0.1:{peer}"))
        start("kube-apiserver", *_api_server_flags(directory, f"http://127.0.0.1:{etcd}", api))
        certificate, key = directory / "apiserver" / "apiserver.crt", directory / "apiserver" / "apiserver.key"
        until(key.exists, "the API server's key, which it writes last", *processes, within_s=UP_WITHIN_S)
        token = (directory / "tokens.csv").read_text().partition(",")[0]
        (directory / "kubeconfig").write_text(_kubeconfig(api, certificate, token))
        login = f"Bearer {token}", certificate
        cluster = Cluster(programs, directory, f"https://127.0.0.1:{api}", login, processes)
        cluster.until(lambda: _is_ready(cluster), "the API server")
        client = ("--kubeconfig", str(directory / "kubeconfig"))
        ours = (*client, "--leader-elect=false", "--bind-address=127.0.0.1")
        tokens, patience = f"--service-account-private-key-file={directory}/key.pem", "--node-monitor-grace-period=24h"
        start("kube-controller-manager", *ours, f"--secure-port={controllers}", tokens, patience)
        start("kube-scheduler", *ours, f"--secure-port={scheduler}")
        cluster.create(*map(_node, NODES))
        stack.callback(Kubelet(cluster).stop)
        yield cluster


def _is_ready(cluster: Cluster) -> bool:
    try:
        return cluster.ask("readyz") == (200, "ok")
    except OSError:  # it does not listen yet
        return False


def _etcd_flags(directory: Path, clients: str, peers: str) -> list[str]:
    listens = [f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}", f"--listen-peer-urls={peers}"]
    return [f"--data-dir={directory}/etcd", *listens, "--log-level=warn", "--unsafe-no-fsync"]


def _api_server_flags(directory: Path, etcd: str, port: int) -> list[str]:
    """With a key for the tokens of service accounts, and a login."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.TraditionalOpenSSL
    (directory / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    (directory / "tokens.csv").write_text(f'{secrets.token_hex(16)},admin,admin,"system:masters"\n')
    return [
        f"--etcd-servers={etcd}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={directory}/apiserver",
        "--allow-privileged",  # so that it is the namespace that does not
        "--service-cluster-ip-range=10.0.0.0/24",
        "--endpoint-reconciler-type=none",  # it listens on loopback alone, which no endpoint may be
        "--authorization-mode=RBAC",
        f"--token-auth-file={directory}/tokens.csv",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={directory}/key.pem",
        f"--service-account-signing-key-file={directory}/key.pem",
    ]


def _kubeconfig(port: int, certificate: Path, token: str) -> str:
    server = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(certificate)}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": server}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "admin"}}],
            "current-context": "here",
        }
    )


def _node(name: str) -> Resource:
    has = {"cpu": "8", "memory": "32Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"capacity": has, "allocatable": has, "conditions": [{"type": "Ready", "status": "True"}]},
    }
