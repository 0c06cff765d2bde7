"""Schemas of a Schema Registry, and which records are read by which of them.

client         schemas by their IDs, each asked for once
values         values by the registry that the settings name
judge          which records of a batch are read by their schemas
known_schemas  what of that is committed, so that a replay reads the same
"""
