"""Datasets: reading them, committing to them, and the two files of a commitment."""

from __future__ import annotations

from .committed import CommittedDataset, commit
from .dataset import Dataset, load_dataset

__all__ = ["CommittedDataset", "Dataset", "commit", "load_dataset"]
