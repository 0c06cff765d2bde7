"""Settings as command-line options: `with_settings` gives a command the flags of the settings it names."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic_core import PydanticUndefined

from worker.errors import UsageError
from worker.settings.files import FILE, is_secret
from worker.settings.model import Settings
from worker.settings.sources import PREFIX, load_settings

Command = Callable[..., None]


def with_settings(*names: str) -> Callable[[Command], Command]:
    """Add the flags of the named settings, `--config` and `--kafka` to a command.

    The command receives the frozen `Settings` as its first argument. Settings that it does not name still come
    from variables and the file, so that one environment serves every command of a deployment.

    Args:
        names: fields of `Settings`; none means all of them.
    """
    chosen = [name for name in names or Settings.model_fields if name != "kafka"]

    def decorate(command: Command) -> Command:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            flags = {flag: arguments.pop(flag) for flag in map(_flag_name, chosen)}
            given = {name: value for name, value in flags.items() if value is not None}
            config, properties = arguments.pop("config"), arguments.pop("kafka")
            if properties:
                given["kafka"] = dict(_property(text) for text in properties)
            command(load_settings(given, os.environ, config), **arguments)

        run.__signature__ = inspect.Signature([*own, *map(_flag, chosen), *_COMMON])  # type: ignore[attr-defined]
        del run.__wrapped__  # typer would read the signature of the undecorated command
        run.__annotations__ = {p.name: p.annotation for p in run.__signature__.parameters.values()}  # type: ignore[attr-defined]
        return run

    return decorate


def _flag(name: str) -> inspect.Parameter:
    """One setting as an option; values stay text, so that pydantic alone says what is wrong with them."""
    field = Settings.model_fields[name]
    option = "--" + _flag_name(name).replace("_", "-")
    declared = f"{option}/--no-{option[2:]}" if field.annotation is bool else option
    typer_option = typer.Option(
        declared, help=_help(name), metavar=_metavar(field.annotation), rich_help_panel="Settings", show_default=False
    )
    kind = bool if field.annotation is bool else str
    return _keyword(_flag_name(name), Annotated[kind | None, typer_option], None)


def _flag_name(name: str) -> str:
    """Everybody can read a command's arguments: a secret has a flag for its file only."""
    return name + FILE if is_secret(name) else name


def _help(name: str) -> str:
    field = Settings.model_fields[name]
    if is_secret(name):
        return f"file with the {field.description}"
    default = field.default
    shown = "" if default in (None, PydanticUndefined, False, {}) else f" [{default}]"
    return f"{field.description}{shown}".replace("[", r"\[")


def _metavar(annotation: Any) -> str | None:
    if annotation is bool:
        return None
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    kinds = {kind.__name__ for kind in (get_args(annotation) or (annotation,)) if isinstance(kind, type)}
    return "NUMBER" if kinds & {"int", "float"} else "TEXT"


def _property(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        name = text if re.fullmatch(r"[a-z0-9._]+", text) else "..."  # what else it is may be a secret
        raise UsageError(f"--kafka {name}: expected NAME=VALUE, for example --kafka security.protocol=SSL")
    return name, value


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


_COMMON = (
    _keyword(
        "kafka",
        Annotated[
            list[str] | None,
            typer.Option(
                "--kafka", metavar="NAME=VALUE", help="librdkafka property; may be repeated", show_default=False
            ),
        ],
        None,
    ),
    _keyword(
        "config",
        Annotated[
            Path | None,
            typer.Option("--config", envvar=PREFIX + "CONFIG", help="TOML file of settings", show_default=False),
        ],
        None,
    ),
)
