"""Laws of running workers: the controllers of a real control plane start, replace, drain and scale them one by one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.deploy.manifests import ROOT
from tests.kubernetes.cluster import NAMESPACE, Cluster
from tests.kubernetes.control_plane import NODES
from tests.kubernetes.overlay import WORKERS, apply, roll_out
from tests.kubernetes.pods import Pod, pods, settled, watch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]  # the first one builds

NAMES = [f"cellstream-{ordinal}" for ordinal in range(WORKERS)]
OVER_BUDGET = "Cannot evict pod as it would violate the pod's disruption budget."


def evict(cluster: Cluster, name: str) -> str:
    """What the server says to the eviction of a pod: nothing, or why it is refused for now (status 429)."""
    wanted = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": NAMESPACE}}
    status, said = cluster.ask(f"api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction", wanted, "POST")
    assert status in (201, 429), said
    return str(json.loads(said)["message"]) if status == 429 else ""


def test_workers_do_not_wait_for_each_other_and_are_found_before_they_are_ready(empty: Cluster, tmp_path: Path) -> None:
    apply(empty, tmp_path, tag="broken")
    empty.until(lambda: [pod.name for pod in pods(empty) if pod.running] == NAMES, "all workers to run")
    assert not any(pod.available for pod in pods(empty))

    def found() -> dict[str, int]:
        slices = empty.read("endpointslices")["items"]
        return {end.get("hostname"): one["ports"][0]["port"] for one in slices for end in one["endpoints"] or []}

    empty.until(lambda: found() == dict.fromkeys(NAMES, 9108), "the Service to name them")


def test_workers_share_one_volume_and_are_spread_over_the_nodes(empty: Cluster, tmp_path: Path) -> None:
    roll_out(empty, tmp_path)
    assert [pod.name for pod in pods(empty)] == NAMES
    assert {pod.node for pod in pods(empty)} == set(NODES)
    claim = empty.read("persistentvolumeclaims", "cellstream-checkpoints")
    assert {pod.claim for pod in pods(empty)} == {claim["metadata"]["name"]}
    assert (claim["status"]["phase"], claim["spec"]["volumeName"]) == ("Bound", "shared")


@pytest.mark.parametrize(("tag", "settings"), [("2", {}), ("1", {"checkpoint_interval_s": "10"})])
def test_a_change_replaces_one_worker_after_the_other_from_the_highest_ordinal(
    tag: str, settings: dict[str, str], empty: Cluster, tmp_path: Path
) -> None:
    roll_out(empty, tmp_path)
    before, claim = pods(empty), empty.read("persistentvolumeclaims", "cellstream-checkpoints")
    with watch(empty, tmp_path / "watch.log") as history:
        roll_out(empty, tmp_path, tag, **settings)
    assert [pod.name for pod in history.created()] == NAMES[::-1]
    assert history.least_available() == WORKERS - 1
    after = pods(empty)
    assert [pod.name for pod in after] == [pod.name for pod in before] == NAMES
    assert {pod.uid for pod in before}.isdisjoint(pod.uid for pod in after)
    for pod in after:
        assert pod.image == f"cellstream-model:{tag}"
        assert (pod.settings == before[0].settings) == (not settings), "a change of settings is a new ConfigMap"
    still = empty.read("persistentvolumeclaims", "cellstream-checkpoints")
    assert (still["metadata"]["uid"], still["spec"]) == (claim["metadata"]["uid"], claim["spec"])
    assert {pod.claim for pod in after} == {pod.claim for pod in before}


def test_the_watch_shows_when_two_are_away_at_once(empty: Cluster, tmp_path: Path) -> None:
    roll_out(empty, tmp_path)
    with watch(empty, tmp_path / "watch.log") as history:
        empty("delete", "pod", "--namespace", NAMESPACE, "--wait=false", *NAMES[1:3])  # a deletion asks no budget
        empty.until(lambda: len(history.created()) == 2 and settled(empty, WORKERS), "both to be back")
    assert history.least_available() == WORKERS - 2


def test_the_same_again_replaces_nobody(empty: Cluster, tmp_path: Path) -> None:
    roll_out(empty, tmp_path)
    before = {pod.uid for pod in pods(empty)}
    with watch(empty, tmp_path / "watch.log") as history:
        roll_out(empty, tmp_path)
        empty("scale", "statefulset/cellstream", "--namespace", NAMESPACE, f"--replicas={WORKERS - 1}")
        empty.until(lambda: settled(empty, WORKERS - 1), "one worker less, which shows that the controller was there")
    assert history.created() == []
    assert {pod.uid for pod in pods(empty)} < before


def test_a_roll_out_stops_at_a_broken_worker_and_goes_on_when_it_is_undone(empty: Cluster, tmp_path: Path) -> None:
    roll_out(empty, tmp_path)
    last, others = NAMES[-1], pods(empty)[:-1]

    def broken() -> Pod | None:
        return next((pod for pod in pods(empty) if pod.image.endswith(":broken") and pod.running), None)

    def healthy() -> int:
        return int(empty.read("poddisruptionbudgets", "cellstream")["status"]["currentHealthy"])

    with watch(empty, tmp_path / "watch.log") as history:
        apply(empty, tmp_path, tag="broken")
        empty.until(lambda: broken() is not None, "the broken worker")
        first = broken()
        assert first is not None
        assert first.name == last
        empty.until(lambda: healthy() == WORKERS - 1, "the budget to count it out")
        assert evict(empty, NAMES[0]) == OVER_BUDGET
        assert evict(empty, last) == ""  # one that is not ready may always go
        empty.until(lambda: (broken() or first).uid != first.uid, "the controller to replace it")
        roll_out(empty, tmp_path)
    assert [pod.name for pod in history.created()] == [last] * 3
    assert history.least_available() == WORKERS - 1
    assert [pod.uid for pod in pods(empty)[:-1]] == [pod.uid for pod in others]


def test_an_eviction_that_would_leave_two_workers_out_is_refused(empty: Cluster, tmp_path: Path) -> None:
    roll_out(empty, tmp_path)
    gone = pods(empty)[1]

    def is_new(pod: Pod) -> bool:
        return pod.name == gone.name and pod.uid != gone.uid

    empty("cordon", *NODES)
    try:
        assert evict(empty, gone.name) == ""  # and has nowhere to go
        assert evict(empty, NAMES[2]) == OVER_BUDGET
        empty.until(lambda: any(is_new(pod) for pod in pods(empty)), "it to wait for a node")
        assert evict(empty, NAMES[2]) == OVER_BUDGET
    finally:
        empty("uncordon", *NODES)
    empty.until(lambda: settled(empty, WORKERS), "it to be ready again")
    assert evict(empty, NAMES[2]) == ""
    empty.until(lambda: settled(empty, WORKERS), "the other one, too")


def test_a_drained_node_gives_up_one_worker_after_the_other(empty: Cluster, tmp_path: Path) -> None:
    roll_out(empty, tmp_path)
    nodes = [pod.node for pod in pods(empty)]
    fullest = max(NODES, key=nodes.count)
    leave = {pod.name for pod in pods(empty) if pod.node == fullest}
    assert len(leave) > 1
    try:
        with watch(empty, tmp_path / "watch.log") as history:
            empty("drain", fullest, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=290s")
            empty.until(lambda: settled(empty, WORKERS), "all workers elsewhere")
        assert {pod.name for pod in history.created()} == leave
        assert len(history.created()) == len(leave)
        assert history.least_available() == WORKERS - 1
        assert all(pod.node != fullest for pod in pods(empty))
    finally:
        empty("uncordon", fullest)


def test_an_apply_leaves_the_number_of_workers_to_keda(empty: Cluster) -> None:
    keda = ROOT / "kubernetes" / "overlays" / "keda"
    scale = ("scale", "statefulset/cellstream", "--namespace", NAMESPACE)
    empty.apply(keda)
    empty(*scale, "--replicas=3")  # as KEDA does
    empty.until(lambda: settled(empty, 3), "three workers")
    before = {pod.name: pod.uid for pod in pods(empty)}
    empty.apply(keda)
    assert empty.read("statefulsets", "cellstream")["spec"]["replicas"] == 3
    empty(*scale, "--replicas=2")
    empty.until(lambda: settled(empty, 2), "two workers")
    assert {pod.name: pod.uid for pod in pods(empty)} == {name: before[name] for name in NAMES[:2]}
