"""Fixtures of the tests of model files."""

from __future__ import annotations

from tests.formats.models import small_pt, small_safetensors

__all__ = ["small_pt", "small_safetensors"]
