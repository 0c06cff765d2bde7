"""Versions of the packages that are installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

# The same library without code for graphics processors, which the image has, is another package.
_OTHER_BUILDS = {"tensorflow": ("tensorflow-cpu",)}


def installed_version(package: str) -> str:
    """The version of a package, or of another build of it.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    for name in (package, *_OTHER_BUILDS.get(package, ())):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    raise PackageNotFoundError(package)
