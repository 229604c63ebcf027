"""Configurations with names."""

from __future__ import annotations

from .config import ProbeConfig

PAPER_DEFAULT = ProbeConfig(steps=10, batch_size=16)
"""The paper's "unless specified otherwise" (section 5), with rho = 0.05, lr = 0.0001, ASAM; eps and ddof are ours."""

PAPER_AUDIT = ProbeConfig(steps=5, batch_size=8)
"""What the paper audits (Table 3) and certifies (Table 6) with; the demo's and the benchmarks' configuration."""

DEFAULT = PAPER_DEFAULT
"""What measure, audit, announce, estimate and prove, and every function behind them, take where nothing is given."""
