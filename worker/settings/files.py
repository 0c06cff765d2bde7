"""Settings whose values stand in files of their own, as secrets do when Docker or Kubernetes mounts them.

`CELLSTREAM_NAME_FILE`, the key `name_file`, and for a client property the name with `.file` behind it, say where the
value is. What such a file, or a secret, holds is never part of a message: nor is the path, which may be the secret
itself, put where its file should have been named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

MAX_BYTES = 65_536
FILE, PROPERTY_FILE = "_file", ".file"

# librdkafka's own names that end like ours: it reads these files itself.
OWN_FILES = frozenset(
    f"sasl.oauthbearer.assertion.{name}" for name in ("file", "jwt.template.file", "private.key.file")
)
_SECRET = re.compile(r"(password|passphrase|secret|registry_auth|key\.pem|jaas\.config)$")

Spell = Callable[[str], str]


def is_secret(name: str) -> bool:
    """Whether a setting or a client property holds a secret."""
    return _SECRET.search(name) is not None


def masked(url: str) -> str:
    """A URL for people: without the password that may be in front of its host."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", url)


def read_settings(
    values: Mapping[str, Any], known: Mapping[str, Any], spell: Spell, problems: list[str]
) -> dict[str, Any]:
    """The settings of one source, those that name a file replaced by what is in it.

    Args:
        values: setting or `NAME_file` -> value.
        known: names of settings.
        spell: a name as its source writes it.
        problems: what is wrong is added here.
    """

    def base(name: str) -> str | None:
        found = name.removesuffix(FILE)
        return found if name not in known and found != name and found in known and found != "kafka" else None

    return _replaced(values, base, spell, problems)


def read_properties(properties: Mapping[str, Any], spell: Spell, problems: list[str]) -> dict[str, Any]:
    """The client properties of one source, those that name a file replaced by what is in it; see `read_settings`."""

    def base(name: str) -> str | None:
        found = name.removesuffix(PROPERTY_FILE)
        return found if name not in OWN_FILES and found != name else None

    return _replaced(properties, base, spell, problems)


def _replaced(
    values: Mapping[str, Any], base: Callable[[str], str | None], spell: Spell, problems: list[str]
) -> dict[str, Any]:
    kept = {name: value for name, value in values.items() if base(name) is None}
    for name, path in values.items():
        target = base(name)
        if target is None:
            continue
        if target in kept:
            problems.append(f"{spell(name)} and {spell(target)}: give one of the two")
            continue
        try:
            kept[target] = _content(Path(str(path)))
        except (OSError, ValueError) as fault:
            why = fault.strerror if isinstance(fault, OSError) else fault
            problems.append(f"{spell(name)}: cannot take the value from that file: {why}; name a file that holds it")
    return kept


def _content(path: Path) -> str:
    """The text of a file without the line break at its end.

    Raises:
        OSError: it cannot be read.
        ValueError: it is empty, too large, or no text.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    try:
        text = content.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("no UTF-8 text") from None
    if not text or "\0" in text:
        raise ValueError("empty" if not text else "no text")
    return text
