"""Data sets in and out: `load` reads anything we know, `write` puts a copy back in the layout it came in."""

from tocsin.data.dataset import Dataset, concatenate
from tocsin.data.loading import load
from tocsin.data.writing import learned_of, manifest_of, read_manifest, write, write_copy, write_subset

__all__ = ["Dataset", "concatenate", "learned_of", "load", "manifest_of", "read_manifest", "write", "write_copy", "write_subset"]
