"""Checkpoints: the file, the store, crashes and damage, the background writer."""
