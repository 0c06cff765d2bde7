"""The only place that opens and writes `.keras` files.

A `.keras` file is a zip archive: a JSON configuration that names classes, and weights in HDF5. Keras builds what the
configuration names, so the configuration is read first and anything that is not Keras' own is refused;
`safe_mode` is the second fence, and the digest in the manifest, checked before, is the first.
"""

from __future__ import annotations

import io
import json
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worker.artifact import MAX_MODEL_BYTES
from worker.errors import ArtifactRefused
from worker.model.weights_file import verify_weights

MEMBERS = {"metadata.json": 1 << 16, "config.json": 16 << 20, "model.weights.h5": MAX_MODEL_BYTES}
MAX_DEPTH = 200
MODEL_MODULES = frozenset(
    (
        "activations", "constraints", "dtype_policies", "initializers", "layers", "losses", "metrics", "models", "ops",
        "optimizers", "quantizers", "random", "regularizers",
    )
)  # fmt: skip
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
# zipfile says RuntimeError of an encrypted member, NotImplementedError of a compression or a version that it lacks.
UNREADABLE = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, RuntimeError, struct.error)


def open_model(content: bytes, name: str) -> Any:
    """Build the Keras model of a `.keras` file.

    Args:
        content: the file's bytes.
        name: what to call the file in a message.

    Raises:
        ArtifactRefused: not a `.keras` archive, oversized, or naming classes that are not Keras' own.
    """
    _verify(content, name)
    import keras

    with tempfile.TemporaryDirectory() as private:  # the verified bytes, where nobody can exchange them
        path = Path(private, "model.keras")
        path.write_bytes(content)
        try:
            return keras.saving.load_model(path, compile=False, safe_mode=True)
        except (ValueError, TypeError, KeyError, OSError, AttributeError, ImportError) as error:
            raise ArtifactRefused(f"{name}: Keras {keras.__version__} cannot open it: {_first_line(error)}") from None


def model_bytes(model: Any) -> bytes:
    """A model as a `.keras` file without dates, optimizer and metrics: the same model gives the same bytes."""
    import keras

    bare = type(model).from_config(model.get_config())  # without what `compile` and `fit` have attached
    bare.set_weights(model.get_weights())
    with tempfile.TemporaryDirectory() as private:
        path = Path(private, "model.keras")
        keras.saving.save_model(bare, path)
        out = io.BytesIO()
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as fixed:
            for name in MEMBERS:
                content = archive.read(name)
                if name == "metadata.json":
                    facts = {**json.loads(content), "date_saved": "1980-01-01@00:00:00"}
                    content = json.dumps(facts, sort_keys=True).encode()
                if name == "config.json":
                    content = json.dumps(_renumbered(json.loads(content), {})).encode()
                fixed.writestr(zipfile.ZipInfo(name, ZIP_EPOCH), content)
    return out.getvalue()


def _renumbered(config: Any, numbers: dict[int, int]) -> Any:
    """A configuration whose shared objects are numbered as they appear; Keras writes their memory addresses."""
    if isinstance(config, list):
        return [_renumbered(part, numbers) for part in config]
    if not isinstance(config, dict):
        return config
    return {
        key: numbers.setdefault(part, len(numbers)) if key == "shared_object_id" else _renumbered(part, numbers)
        for key, part in config.items()
    }


def _verify(content: bytes, name: str) -> None:
    """Refuse what is not the zip archive that Keras writes, or names what Keras does not have."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except UNREADABLE:
        raise ArtifactRefused(
            f"{name}: not a .keras file. HDF5 models (.h5) are not opened: load it where it was trained and save it "
            "with model.save('model.keras')."
        ) from None
    with archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        if set(sizes) != set(MEMBERS) or len(archive.infolist()) != len(MEMBERS):
            raise ArtifactRefused(f"{name}: expected the members {', '.join(MEMBERS)}, found {_some(sizes)}.")
        for member, limit in MEMBERS.items():
            if sizes[member] > min(limit, max(10 * len(content), 1 << 20)):
                raise ArtifactRefused(f"{name}: {member} unpacks to {sizes[member]} bytes, too much for this file.")
        try:
            config = json.loads(archive.read("config.json"))
            weights = archive.read("model.weights.h5")
        except UNREADABLE as error:
            raise ArtifactRefused(f"{name}: a member cannot be read: {_first_line(error)}") from None
    verify_weights(weights, name)
    for described in _described(config):
        kind, module = described.get("class_name"), described.get("module")
        layer = (described.get("config") or {}).get("name") if isinstance(described.get("config"), dict) else None
        if kind in ("Lambda", "__lambda__"):
            raise ArtifactRefused(
                f"{name}: layer {layer!r} ({kind}) cannot be streamed: it runs code that is stored in the file. "
                "Use a Keras layer that does the same."
            )
        own = module is None or module == "builtins" or _is_for_models(str(module))
        if not own or described.get("registered_name") not in (None, kind):
            if _is_registered(described.get("registered_name"), kind):
                continue
            raise ArtifactRefused(
                f"{name}: layer {layer!r} is a {_bounded(kind)} of {_bounded(module)}, a class that is not Keras' own: "
                "build the model from Keras' layers, or register the class on this machine (docs/models.md)."
            )


def _is_for_models(module: str) -> bool:
    """Whether a module of Keras holds what models are made of: others have functions that fetch files and run code."""
    parts = [part for part in module.split(".") if part != "src"]
    return parts[0] == "keras" and (len(parts) == 1 or parts[1] in MODEL_MODULES)


def _is_registered(registered_name: Any, kind: Any) -> bool:
    """Whether code that was installed here, and not the file, vouches for a class."""
    from worker.model.layers import is_registered, load_registered

    load_registered()
    return is_registered(registered_name, kind)


def _described(config: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Every object description in a configuration: each dictionary with a class name."""
    if depth > MAX_DEPTH:
        raise ArtifactRefused(f"config.json is nested deeper than {MAX_DEPTH} levels.")
    if isinstance(config, dict):
        if "class_name" in config:
            yield config
        config = list(config.values())
    if isinstance(config, list):
        for part in config:
            yield from _described(part, depth + 1)


def _first_line(error: BaseException) -> str:
    """The start of another library's message, on one line."""
    return _bounded((str(error).strip() or type(error).__name__).splitlines()[0])


def _bounded(text: Any) -> str:
    return repr(str(text)[:200])[1:-1]


def _some(names: Any) -> str:
    return ", ".join(_bounded(name) for name in list(names)[:6]) or "none"
