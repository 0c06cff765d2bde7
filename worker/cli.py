"""The console command: finds a subcommand, runs it, turns its errors into words and exit codes.

A subcommand is imported only when it is called or its help is asked for, so that `--help` and `topics` do not
wait for TensorFlow. `training` adds its own through the entry point group `cellstream.commands`.
"""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import entry_points, version
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup
from typer.main import get_command

from worker.errors import CellstreamError

ENTRY_POINTS = "cellstream.commands"

# name -> what the overview says of it; the function is worker.commands.NAME:NAME.
COMMANDS = {
    "export": "A Keras model that somebody trained -> artifact, with its parity certificate.",
    "check": "Digest, parity and summary of an artifact; and of a broker's topics.",
    "plan": "Workers, partitions, memory and restores for so many streams.",
    "topics": "Create or verify the topics of a deployment.",
    "run": "The worker: answer every sample of a topic, exactly once.",
    "rekey": "A topic keyed otherwise -> one keyed by stream ID, exactly once.",
    "publish": "Samples from NDJSON, CSV or a bundled set into the samples topic.",
    "watch": "Probabilities, live in the terminal.",
    "state": "Look at, export or reset the checkpointed state.",
    "bench": "Measure the worker against the plain loop and the batch-of-one loop.",
}
TRAINING_COMMANDS = {
    "train": "A data set -> a trained model and its artifact.",
    "evaluate": "An artifact on labelled data: how right, how early, how steady.",
    "demo": "Everything on the embedded broker: train, stream, compare with Keras.",
    "experiments": "The systems that cellstream grew from, each with what it claims.",
}


class LazyGroup(TyperGroup):
    """Subcommands by name; the modules behind them are imported on first use."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of a deployment's life, then those that other packages add."""
        added = [entry.name for entry in entry_points(group=ENTRY_POINTS)]
        first = [name for name in TRAINING_COMMANDS if name in added]
        return [*first, *COMMANDS, *(name for name in added if name not in first)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import and build one subcommand; None when there is no such name."""
        if cmd_name in COMMANDS:
            target = getattr(importlib.import_module(f"worker.commands.{cmd_name}"), cmd_name)
        else:
            found = entry_points(group=ENTRY_POINTS, name=cmd_name)
            if not found:
                return None
            target = next(iter(found)).load()
        if isinstance(target, typer.Typer):
            command = get_command(target)
        else:
            single = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
            single.command(cmd_name)(target)
            command = get_command(single)
        command.name = cmd_name
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The overview, without importing a single subcommand."""
        console = Console()
        console.print("\n[bold]cellstream[/bold] runs recurrent Keras models on live Kafka streams.\n")
        console.print("Usage: cellstream COMMAND \\[OPTIONS]      (cellstream COMMAND --help teaches each)\n")
        summaries = {**TRAINING_COMMANDS, **COMMANDS}
        for name in self.list_commands(ctx):
            console.print(f"  [bold cyan]{name:<12}[/bold cyan] {summaries.get(name, '')}")
        console.print(
            "\nEvery setting is a flag, a CELLSTREAM_* variable and a key of --config FILE.toml, in that order."
        )
        console.print("Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 refused for safety.\n")


app = typer.Typer(cls=LazyGroup, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        print("cellstream", version("cellstream"))
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", help="Print the version.", is_eager=True, callback=_print_version),
) -> None:
    """Run recurrent Keras models on live Kafka streams."""


def say(fault: CellstreamError) -> int:
    """Print what was wrong; the exit code that says so to scripts."""
    kind = {2: "wrong usage", 3: "refused"}.get(fault.exit_code, "failed")
    Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(f"cellstream: {kind}: {fault}")
    return fault.exit_code


def main() -> None:
    """Entry point of the console script; the one place that catches everything ours."""
    try:
        app(prog_name="cellstream")
    except CellstreamError as fault:
        sys.exit(say(fault))
    except KeyboardInterrupt:
        sys.exit(130)  # commands end by themselves on Ctrl-C; this one came before a command could
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe went away; nothing is left to say to it
        sys.exit(1)
