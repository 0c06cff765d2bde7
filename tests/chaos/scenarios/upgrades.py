"""A running group goes from a former version to this one, and back: workers of both share its partitions meanwhile.

The former version is the code of an earlier commit (`UPGRADE_FROM`), taken out of git and run in the same environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.chaos.scenarios.context import Context
from tests.chaos.scenarios.crashes import QUICK
from tests.chaos.scenarios.rebalances import PROTOCOLS, WORKERS, identity
from tests.chaos.scenarios.registry import Skipped, add, scenario
from tests.chaos.scenarios.stage import PARTITIONS, Stage

# The last commits before sentences of a group's note were added, and before checkpoints could have optional columns.
FORMER = os.environ.get("UPGRADE_FROM", "d830638")
ROOT = Path(__file__).parents[3]
# As that commit wrote it; what it answers is the same by both.
ARTIFACT = ROOT / "tests" / "golden" / "d830638" / "artifact"
# A slow machine must not look like a dead worker: what is tested is the hand-over between versions.
PATIENT = ("--kafka", "session.timeout.ms=30000")

PATIENCE_S = 600.0  # no worker of the former version is forked from a warm process

Command = tuple[str | Path, ...]


def former_version(directory: Path) -> Command:
    """The command that is the former version's `cellstream`.

    Raises:
        Skipped: git is not here, or its history does not reach back so far.
    """
    git = shutil.which("git")
    found = (
        subprocess.run([git, "archive", FORMER, "worker"], cwd=ROOT, capture_output=True, check=False) if git else None
    )
    if found is None or found.returncode:
        why = found.stderr.decode().strip() if found is not None else "git is not installed"
        raise Skipped(f"commit {FORMER} cannot be taken out of git: {why}")
    tree = directory / f"former-{FORMER}"
    with tarfile.open(fileobj=BytesIO(found.stdout)) as archive:
        archive.extractall(tree, filter="data")
    python: Command = ("env", f"PYTHONPATH={tree}", sys.executable, "-P")
    script = "import worker; print(worker.__file__)"
    used = subprocess.run([*python, "-c", script], capture_output=True, check=True, text=True).stdout.strip()
    assert Path(used).is_relative_to(tree), f"{used} would be run, not the former version"
    return (*python, "-c", "from worker.cli import main; main()")


def _there_and_back(protocol: str, static: bool) -> None:
    def play(context: Context) -> None:
        former = former_version(context.directory)
        names = WORKERS[:2]
        with context.stage(*QUICK, *PROTOCOLS[protocol], *(() if protocol == "kip-848" else PATIENT)) as stage:
            stage.deployment.artifact = ARTIFACT

            def begin(name: str, command: Command = ()) -> None:
                stage.start(name, *identity(name, static), launched=command)

            def move(name: str, command: Command = (), kill: bool = False) -> None:
                stage.kill(name) if kill else stage.stop(name)
                begin(name, command)
                _both_answer(stage, context)
                context.faults["worker of the former version" if command else "worker of this version"] += 1

            with stage.flowing(200):
                for name in names:  # each has partitions of its own before it is replaced
                    begin(name, former)
                    _both_answer(stage, context)
                for name in names:  # forward, one by one: for a while both versions share the partitions
                    move(name)
                for name in names:  # back
                    move(name, former)
                move(names[0])  # half forward, and the new one dies: its checkpoints are the former version's to read
                move(names[0], former, kill=True)
                move(names[1], kill=True)  # and the other way round
                move(names[0])
            # Another version may have compiled the model otherwise: its last bits are its own, and Keras is the judge.
            stage.finish(within_s=PATIENCE_S, compare=False)

    members = "static members" if static else "members"
    add(
        f"upgrade:{protocol}{'-static' if static else ''}",
        play,
        f"Two workers of commit {FORMER}, {members} of a {protocol} group, are replaced by this version's one by one, "
        "and back; then with kill -9, in either direction.\n\nExpected: everything is answered exactly once, over all "
        "of it, and within the artifact's certificate of what Keras says.",
        long=True,
    )


def _both_answer(stage: Stage, context: Context) -> None:
    """Wait until whoever has come has taken partitions over, and everybody has answered since."""
    worker = list(stage.workers.values())[-1]
    stage.until(lambda: "restored " in worker.tail(100_000), "a partition restored", PATIENCE_S)
    stage.progress(context.random.randint(50, 300), PATIENCE_S)


for _protocol in ("cooperative", "eager", "kip-848"):
    _there_and_back(_protocol, static=False)
_there_and_back("cooperative", static=True)


@scenario("upgrade:newer-note")
def newer_note(context: Context) -> None:
    """A newer version has committed one of the offsets, with a note of its own, and the group goes back to this one.

    Expected: the worker refuses (exit 3) and names both versions. When Kafka was made to forget the notes, as
    docs/upgrades.md says, it goes on from its checkpoints, exactly once.
    """
    with context.stage(*QUICK) as stage:
        stage.publish(500)
        stage.start()
        stage.settle()
        stage.stop()
        _commit_anew(stage, "cellstream/2 of=tomorrow")
        context.faults["note of a newer version"] += 1
        stage.publish(500)
        stage.start()
        stage.ends(3, "of version 2, this cellstream reads version 1", "docs/upgrades.md", within_s=PATIENCE_S)
        _commit_anew(stage, "")
        stage.finish(within_s=PATIENCE_S)


def _commit_anew(stage: Stage, note: str) -> None:
    """Commit the group's offsets once more, with this beside each; nobody is a member of it."""
    deployment = stage.deployment
    committed = deployment.committed(PARTITIONS)
    moved = [TopicPartition(deployment.input_topic, n, offset, metadata=note) for n, offset in enumerate(committed)]
    asked = ConsumerGroupTopicPartitions(deployment.group_id, moved)
    admin = AdminClient(dict(deployment.cluster.conf))
    stage.until(lambda: _done(admin, asked), "the group to be empty")


def _done(admin: AdminClient, asked: ConsumerGroupTopicPartitions) -> bool:
    """Whether the offsets could be altered: not before the broker has seen the last member leave."""
    try:
        (future,) = admin.alter_consumer_group_offsets([asked]).values()
        answers = future.result(timeout=30).topic_partitions
    except KafkaException:
        return False
    return all(answer.error is None for answer in answers)
