"""`cellstream check`: verify an artifact, and say what is in it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from worker.artifact import Artifact, read_artifact
from worker.commands.topics import ensure_topics, raise_problems, topics_report, topics_table, wanted_topics
from worker.errors import ArtifactRefused
from worker.kafka.admin import Cluster
from worker.settings import Settings
from worker.settings.options import with_settings

if TYPE_CHECKING:
    from worker.model.step_model import StepModel

_SHOWN_NAMES = 12


@with_settings("bootstrap_servers", "input_topic", "output_topic", "dead_letter_topic")
def check(
    settings: Settings,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the artifact.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Verify an artifact on this machine, and a deployment's topics where a broker is given; say what is in them.

    The digest is verified before Keras opens the model; the comparison with Keras over every prefix is made
    again with this machine's processor and libraries, and so is the proof that batching cannot be seen in the
    output. An artifact that does not hold is refused (exit 3).

    With `--bootstrap-servers` (or its variable, or the file's entry) the topics are verified as `cellstream topics
    --check` does; nothing is created.

    Example: `cellstream check artifacts/basic-motions --bootstrap-servers localhost:9092`
    """
    artifact = read_artifact(directory)
    cluster = Cluster(settings.kafka_conf()) if "bootstrap_servers" in settings.model_fields_set else None
    findings = ensure_topics(cluster, wanted_topics(settings), create=False) if cluster is not None else []
    from worker.model.tensorflow_setup import setup_tensorflow

    setup_tensorflow()
    from worker.model.keras_file import open_model
    from worker.model.parity import certify
    from worker.model.step_model import WIDTHS, StepModel, load_step_model

    stepped = load_step_model(artifact)
    for width in WIDTHS:
        stepped.add_width(width)
    keras_model = open_model(artifact.read_model(), str(artifact.model_path))
    # Narrow states move the answers on purpose; what loading compares has told that they move no farther than promised.
    certificate = certify(keras_model, stepped if artifact.manifest.state_rounding == 0 else StepModel(keras_model))
    facts = report(artifact, stepped)
    facts["parity_here"] = {**asdict(certificate), "holds": certificate.holds}
    facts["widths_here"] = sorted({width for _, width in stepped.buckets})
    if cluster is not None:
        facts["broker"] = topics_report(cluster, findings)
    show(facts, as_json)
    if findings and not as_json:
        Console(highlight=False).print(topics_table(findings))
    if not certificate.holds:
        raise ArtifactRefused(
            f"{directory}: on this machine {certificate.problem} If it held where it was exported, export the model "
            "again with the libraries of this machine."
        )
    raise_problems(findings)


def report(artifact: Artifact, stepped: StepModel) -> dict[str, Any]:
    """What there is to say of an artifact and its stepped model, as JSON values."""
    manifest = artifact.manifest
    return {
        "artifact": str(artifact.directory),
        "digest": artifact.digest,
        "model_digest": manifest.model_digest,
        "features": list(manifest.features),
        "classes": list(manifest.classes),
        "decision": None if manifest.decision is None else asdict(manifest.decision),
        "answers": "every timestep" if stepped.causal else "the sequence so far",
        "layers": [{"layer": path, "class": kind} for path, kind in stepped.calls],
        "state_size": manifest.state_size,
        "state_bytes": stepped.initial_state.nbytes,
        "state_dtype": manifest.state_dtype,
        "state_rounding": manifest.state_rounding,
        "parity": asdict(manifest.parity),
        "training": manifest.training,
        "versions": manifest.versions,
    }


def show(facts: dict[str, Any], as_json: bool) -> None:
    """Print a report for a person, or for a script."""
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    parity, here = facts["parity"], facts.get("parity_here")
    rows = {
        "artifact": facts["artifact"],
        "digest": facts["digest"],
        "features": _names(facts["features"]),
        "classes": _names(facts["classes"]),
        "layers": " → ".join(f"{entry['class']} {entry['layer']}" for entry in facts["layers"]),
        "answers for": facts["answers"],
        "state": f"{facts['state_size']:,} {facts['state_dtype']}, {facts['state_bytes']:,} bytes for each stream",
        "parity at export": _parity(parity),
    }
    if facts["state_rounding"]:
        rows["rounding of states"] = f"moved answers by {facts['state_rounding']:.1e} at most"
    if facts["decision"]:
        rows["decides"] = f"{_names(list(facts['decision']['classes']))}; {facts['decision']['goal']}"
    if here:
        rows["parity here"] = _parity(here)
        rows["block widths here"] = ", ".join(map(str, facts["widths_here"]))
    if "broker" in facts:
        rows["broker"] = f"cluster {facts['broker']['cluster_id']}"
    rows["made with"] = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    for name, text in rows.items():
        table.add_row(name, escape(str(text)))
    Console(highlight=False).print(table)


def _parity(parity: dict[str, Any]) -> str:
    difference, tolerance = f"{parity['largest_difference']:.1e}", f"{parity['tolerance']:.2g}"
    return f"{difference} over {parity['prefixes']:,} prefixes, at most {tolerance} may be"


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN_NAMES])
    return f"{len(names)}: {shown}" + (", ..." if len(names) > _SHOWN_NAMES else "")
