"""Logs: one event per line with its coordinates, as JSON for machines or readable on a terminal.

Everything that may come from outside is escaped and bounded here, once for all callers: a stream ID with a line
break, a terminal escape or a direction override in it stays one harmless word (RELIABILITY rule 22).
"""

from __future__ import annotations

import logging
import sys
import unicodedata
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

MAX_TEXT = 256
MAX_VALUE = 1024
MAX_TRACE_LINES = 100
MAX_ITEMS = 32

# Unicode categories that can move the cursor, reorder or hide text, or break the line.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def configure_logging(
    format: Literal["auto", "json", "console"] = "auto", level: str = "info", stream: TextIO | None = None
) -> None:
    """Send all logs of the process, those of libraries too, to one place in one form.

    Args:
        format: `auto` is `console` on a terminal and `json` elsewhere.
        level: least severe level: debug, info, warning or error.
        stream: standard error when None, so that a command's output stays clean.
    """
    target = sys.stderr if stream is None else stream
    readable = format == "console" or (format == "auto" and target.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if readable else "iso", utc=not readable),
        structlog.processors.format_exc_info,
        _escape,
    ]
    renderer: Processor = structlog.dev.ConsoleRenderer(colors=target.isatty()) if readable else _render_json
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def printable(text: str | bytes, limit: int = MAX_TEXT) -> str:
    r"""Untrusted text as one bounded line that does nothing to a terminal: `a\x1b[2J`, `\xff`, `\u202e`.

    Args:
        text: bytes are read as UTF-8, what is not is shown as `\xff`.
        limit: most characters of the text that are shown; "..." follows when there are more.
    """
    shown = text[: 4 * limit + 4].decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    escaped = "".join(_visible(character) for character in shown[:limit])
    return escaped + "..." if len(shown) > limit else escaped


def _visible(character: str) -> str:
    if character.isascii() and character.isprintable():
        return character
    if unicodedata.category(character) not in _UNPRINTABLE:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _escape(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Make every value of an event harmless; only a traceback keeps its line breaks."""
    trace = event.pop("exception", None)
    kept = {name: event.pop(name) for name in ("_record", "_from_structlog") if name in event}
    escaped: EventDict = {printable(str(name), 64): _bounded(value) for name, value in event.items()}
    if trace is not None:
        lines = str(trace).splitlines()[-MAX_TRACE_LINES:]
        escaped["exception"] = "\n".join(printable(line) for line in lines)
    return {**escaped, **kept}


def _bounded(value: Any, depth: int = 2) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str | bytes):
        return printable(value, MAX_VALUE)
    if depth and isinstance(value, Mapping):
        pairs = list(value.items())[:MAX_ITEMS]
        return {printable(str(name), 64): _bounded(inner, depth - 1) for name, inner in pairs}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_bounded(inner, depth - 1) for inner in list(value)[:MAX_ITEMS]]
    return printable(str(value), MAX_VALUE)


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """Timestamp, level and event first; then the coordinates in the order in which they were given."""
    first = ("timestamp", "level", "event")
    ordered = {name: event[name] for name in first if name in event}
    return msgspec.json.encode({**ordered, **event}, enc_hook=lambda value: printable(str(value))).decode()
