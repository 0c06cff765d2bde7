"""The Schema Registry that the settings name, and values by its schemas: for the worker and the commands beside it."""

from __future__ import annotations

from worker.codecs.registered import RegisteredValues
from worker.registry.client import SCHEMA_TYPES, Registry
from worker.settings import Settings


def settings_registry(settings: Settings) -> Registry:
    """A client of it."""
    assert settings.schema_registry_url is not None, "validated with the codec"
    return Registry(settings.schema_registry_url, settings.schema_registry_auth)


def registered_values(settings: Settings, codec: str) -> RegisteredValues:
    """The objects in values of one of the codecs with schemas."""
    return RegisteredValues(SCHEMA_TYPES[codec], settings_registry(settings))
