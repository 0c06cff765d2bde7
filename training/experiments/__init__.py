"""The systems that cellstream grew from, each the simplest readable form of itself, with claims that are measured.

`training.experiments.catalog` lists them; `cellstream experiments` runs them; docs/experiments.md shows a full run.
"""
