"""Grids of data, attacks, detectors, victims and seeds, run cell by cell and shown as tables (docs/bench.md)."""
