"""The peers: how each is started, and what there must be before."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worker.errors import FatalFault

HERE = Path(__file__).parent
BUILT = HERE.parents[2] / ".cache" / "peers"


@dataclass(frozen=True)
class Model:
    """What a peer is told of the model.

    Attributes:
        weights: the file of `weights.py`.
        features: of a sample.
        digest: what events name it.
    """

    weights: Path
    features: int
    digest: str


@dataclass(frozen=True)
class Peer:
    """Another program for the same work.

    Attributes:
        name: for readers.
        needs: the last file that its build makes.
        command: what is run.
        times: how many times its rate cellstream's is aimed to be.
        share: what part of the usual records make one of its laps.
        commits: False where it commits no offsets of a group, so that its outputs are counted instead.
    """

    name: str
    needs: Path
    command: Callable[[Model], list[str]]
    times: float
    share: float
    commits: bool = True

    @property
    def built(self) -> bool:
        """Whether `make peers` made it."""
        return self.needs.exists()


def _java(kind: str, file: Path, model: Model) -> list[str]:
    flags = ["-Xms2g", "-Xmx2g", "-XX:+UseParallelGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    classes = f"{BUILT}/streams/classes:{BUILT}/streams/jars/*"
    told = [kind, str(file), str(model.features), model.digest]
    return [shutil.which("java") or "java", *flags, "-cp", classes, "peer.Main", *told]


def _lstm(model: Model) -> list[str]:
    return _java("lstm", model.weights, model)


def _onnx(model: Model) -> list[str]:
    graph = model.weights.with_suffix(".onnx")
    command = [_python("onnx"), str(HERE / "onnx_graph.py"), str(model.weights), str(graph)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise FatalFault(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr.decode()[-4_000:]}")
    return _java("onnx", graph, model)


def _quix(model: Model) -> list[str]:
    return [_python("quix"), str(HERE / "quix_peer.py"), str(model.weights), model.digest]


def _bytewax(model: Model) -> list[str]:
    return [_python("bytewax"), str(HERE / "bytewax_peer.py"), str(model.weights), model.digest]


def _flink(model: Model) -> list[str]:
    (connector,) = (BUILT / "connector").glob("*.jar")
    return [_python("flink"), str(HERE / "flink_peer.py"), str(model.weights), model.digest, str(connector)]


def _python(environment: str) -> str:
    return str(BUILT / environment / "bin" / "python")


PEERS = (
    Peer("Kafka Streams, LSTM in Java", BUILT / "streams.stamp", _lstm, 2, 1.0),
    Peer("Kafka Streams, ONNX Runtime", BUILT / "onnx.stamp", _onnx, 2, 0.4),
    Peer("Quix Streams", BUILT / "quix.stamp", _quix, 100, 0.05),
    Peer("Bytewax", BUILT / "bytewax.stamp", _bytewax, 100, 0.2, commits=False),
    Peer("PyFlink", BUILT / "flink.stamp", _flink, 100, 0.02),
)
