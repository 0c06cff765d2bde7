"""Which experiments there are. Their modules are imported when one is run, so that the list costs nothing."""

from __future__ import annotations

import importlib
from difflib import get_close_matches

from training.experiments.experiment import Experiment, Findings, Setup
from worker.errors import UsageError

# number -> title, module of training.experiments, function
_ITEMS = {
    "1a": ("partial sequences, one label per sequence", "partial_sequences", "one_label_per_sequence"),
    "1b": ("partial sequences, one label per timestep", "partial_sequences", "one_label_per_timestep"),
    "1c": ("partial sequences, the two ways compared", "partial_sequences", "comparison"),
    "1d": ("reviews, word by word", "reviews", "reviews"),
    "2a": ("what cannot stream", "streaming", "what_cannot_stream"),
    "2b": ("stateful twin, one sample at a time", "streaming", "stateful_twin"),
    "2c": ("explicit state, any batch", "explicit_state", "explicit_state"),
    "2d": ("chunks: any cut gives the same", "explicit_state", "chunks"),
    "2e": ("states saved and loaded", "saved_states", "saved_states"),
    "2f": ("what a state is and is not", "explicit_state", "what_a_state_is"),
    "3a": ("echo the current value", "echo", "current_value"),
    "3b": ("echo, the beginner's mistake", "echo", "beginners_mistake"),
    "3c": ("echo with context", "echo", "with_context"),
    "3d": ("echo, extensions", "echo_extensions", "extensions"),
    "3e": ("echo, streamed", "echo_extensions", "streamed"),
    "4a": ("next interval, as a number and as a class", "intervals", "next_interval"),
    "4b": ("several series, one LSTM each", "intervals", "several_series"),
    "4c": ("series by LSTM, by CNN, by both", "series_classifiers", "classifiers"),
    "4d": ("labels of timesteps by LSTM and CRF", "labelled_timesteps", "labelled_timesteps"),
    "5a": ("different lengths: padded, masked, best weights kept", "lengths", "masked_training"),
    "5b": ("what a mask means", "lengths", "masked_semantics"),
    "5c": ("a flat table to sequences and batches", "lengths", "grouped"),
}


def _experiment(name: str) -> Experiment:
    title, module, function = _ITEMS[name]

    def run(setup: Setup) -> Findings:
        findings: Findings = getattr(importlib.import_module(f"training.experiments.{module}"), function)(setup)
        return findings

    return Experiment(name, title, run)


CATALOG: dict[str, Experiment] = {name: _experiment(name) for name in _ITEMS}


def choose(names: list[str]) -> list[Experiment]:
    """Experiments by their numbers.

    Raises:
        UsageError: names every number that there is not.
    """
    unknown = [name for name in names if name not in CATALOG]
    if unknown:
        near = get_close_matches(unknown[0], CATALOG, 1, cutoff=0.3)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"no experiment {', '.join(unknown)}{hint} `cellstream experiments list` has them all")
    return [CATALOG[name] for name in names]
