"""Where settings come from: flags, `CELLSTREAM_*` variables and a TOML file.

Precedence is flag, variable, file, default. Every problem is reported together, and a name that does not
exist is refused with the nearest one that does. Nothing else in the worker reads `CELLSTREAM_*` but the probe of a
container (`worker.pages.probe`).
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from worker.errors import UsageError
from worker.settings.files import is_secret, read_properties, read_settings
from worker.settings.model import Settings

PREFIX = "CELLSTREAM_"


def load_settings(flags: Mapping[str, Any], env: Mapping[str, str], config: Path | None) -> Settings:
    """Merge the three sources and validate them.

    Args:
        flags: field name -> value, only those that were given.
        env: the process environment; names that start with `CELLSTREAM_` are ours.
        config: a TOML file, or None.

    Raises:
        UsageError: names every unknown name and every bad value, each with its source and remedy.
    """
    problems: list[str] = []
    sources = {"file": _from_file(config, problems), "variable": _from_env(env), "flag": dict(flags)}
    merged: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source, given in sources.items():
        values = read_settings(given, Settings.model_fields, partial(_spell, source=source), problems)
        for name, value in values.items():
            if name not in Settings.model_fields:
                problems.append(f"{_spell(name, source)}: no such setting{_nearest(name, source)}")
            elif name == "kafka" and isinstance(value, Mapping):
                merged["kafka"] = {**merged.get("kafka", {}), **_properties(value, source, problems)}
                origin[name] = source
            else:
                merged[name], origin[name] = value, source
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as fault:
        for detail in fault.errors():
            name = str(detail["loc"][0]) if detail["loc"] else ""
            shown = name and name != "kafka" and not is_secret(name)
            received = f", received {detail['input']!r}" if shown else ""
            message = detail["msg"].removeprefix("Value error, ")
            problems.append(f"{_spell(name, origin.get(name, 'flag'))}: {message}{received}" if name else message)
        raise UsageError("\n".join(problems)) from None
    if problems:
        raise UsageError("\n".join(problems))
    return settings


def _properties(given: Mapping[Any, Any], source: str, problems: list[str]) -> dict[str, Any]:
    """Client properties of one source by librdkafka's names, with what stands in files of their own."""
    named = {str(name).replace("_", "."): value for name, value in given.items()}
    for name in named:
        if source == "flag" and is_secret(name):  # everybody on the machine can read a command's arguments
            problems.append(
                f"--kafka {name}=...: no secret belongs into a command line; put it into a file and say "
                f"--kafka {name}.file=FILE, or set CELLSTREAM_KAFKA__{name.upper().replace('.', '_')}_FILE"
            )
    return read_properties(named, partial(_spell_property, source=source), problems)


def _from_file(path: Path | None, problems: list[str]) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        problems.append(f"--config {path}: {fault}")
        return {}


def _from_env(env: Mapping[str, str]) -> dict[str, Any]:
    """`CELLSTREAM_KAFKA__A_B` becomes the property `a.b`; the rest are field names in upper case."""
    values: dict[str, Any] = {}
    for variable, value in env.items():
        name = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or name in ("config", "kafka_image"):
            continue  # read by --config itself, and by the tests
        if name.startswith("kafka__"):
            values.setdefault("kafka", {})[name.removeprefix("kafka__").replace("_", ".")] = value
        else:
            values[name] = value
    return values


def _spell(name: str, source: str) -> str:
    """A setting's name as its source writes it."""
    if source == "variable":
        return PREFIX + name.upper()
    return name if source == "file" else "--" + name.replace("_", "-")


def _spell_property(name: str, source: str) -> str:
    """A client property's name as its source writes it."""
    if source == "variable":
        return f"{PREFIX}KAFKA__{name.upper().replace('.', '_')}"
    return f"kafka.{name}" if source == "file" else f"--kafka {name}"


def _nearest(name: str, source: str) -> str:
    close = difflib.get_close_matches(re.sub(r"[.\-]", "_", name), Settings.model_fields, n=1)
    return f"; did you mean {_spell(close[0], source)}?" if close else ""
