"""Data sets in and out: `load` reads anything we know, `write` puts a copy back in the layout it came in."""

from tocsin.data.dataset import Dataset, concatenate
from tocsin.data.loading import load

__all__ = ["Dataset", "concatenate", "load"]
