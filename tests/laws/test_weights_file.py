"""Weights are plain: what HDF5 could take from elsewhere, or only claim to have, is refused before Keras reads it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import pytest

from worker.errors import ArtifactRefused
from worker.model.weights_file import MAX_DEPTH, verify_weights


def weights(edit: Callable[[Any], object] = lambda h5: None) -> bytes:
    """As Keras writes them, and then edited."""
    out = io.BytesIO()
    with h5py.File(out, "w") as h5:
        group = h5.create_group("layers/dense/vars")
        group.attrs["name"] = "dense"
        group["0"] = np.ones((4, 2), np.float32)
        group["1"] = np.float32(3)
        h5.create_group("vars")
        edit(h5)
    return out.getvalue()


def virtual(h5: Any) -> None:
    layout = h5py.VirtualLayout((4,), "<f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    h5.create_virtual_dataset("vars/2", layout)


def circle(h5: Any) -> None:
    h5["vars/again"] = h5["/"]


def link(kind: Any) -> Callable[[Any], None]:
    def edit(h5: Any) -> None:
        h5["vars/2"] = kind

    return edit


FORGERIES: dict[str, tuple[Callable[[Any], object], str]] = {
    "a soft link": (link(h5py.SoftLink("/layers/dense/vars/0")), "link"),
    "a link to another file": (link(h5py.ExternalLink("/etc/passwd", "/x")), "link"),
    "data in another file": (
        lambda h5: h5.create_dataset("vars/2", (4,), "<f4", external=[("/etc/hostname", 0, 16)]),
        "another file",
    ),
    "a virtual dataset": (virtual, "another file"),
    "compression": (lambda h5: h5.create_dataset("vars/2", data=np.zeros(1000), compression="gzip"), "compressed"),
    "a shape that no memory holds": (lambda h5: h5.create_dataset("vars/2", (2**40,), "<f4"), "claims more"),
    "a circle": (circle, f"nested deeper than {MAX_DEPTH}"),
    "a type for a dataset": (lambda h5: h5.__setitem__("vars/2", np.dtype("<f4")), "neither"),
}


def test_what_keras_writes_is_plain() -> None:
    verify_weights(weights(), "m.keras")


@pytest.mark.parametrize("kind", FORGERIES)
def test_what_keras_does_not_write_is_refused(kind: str) -> None:
    edit, words = FORGERIES[kind]
    with pytest.raises(ArtifactRefused, match=f"m.keras: model.weights.h5: .*{words}"):
        verify_weights(weights(edit), "m.keras")


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", weights()[:500], b"\0" * 5000])
def test_what_is_not_hdf5_is_refused(content: bytes) -> None:
    with pytest.raises(ArtifactRefused, match="cannot be read"):
        verify_weights(content, "m.keras")
