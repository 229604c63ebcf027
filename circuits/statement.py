"""From a public statement to its circuit and its Fiat-Shamir transcript: shared by prover and verifier."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from circuits.language.layout import Layout
from zkcert.core import sis
from zkcert.core.field import I64, U64
from zkcert.core.transcript import Transcript
from zkcert.public.model import Model, input_affine
from zkcert.public.statement import VERSION, Statement

from .compile import Certificate, Plan
from .limits import require_small
from .listing import listing_digest
from .net import RESIDUE_COST


class Quantized(Mapping[str, I64]):
    """A model's weights in Q31.32, int64, by name; made anew whenever one is asked for, as they are large."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def __getitem__(self, name: str) -> I64:
        return self._model.quantized(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._model.params)

    def __len__(self) -> int:
        return len(self._model.params)


def plan_of(statement: Statement, model: Model, hashes: U64, residue_cost: int = RESIDUE_COST) -> Plan:
    """hashes: uint64 (T B, 160) of the drawn samples, in order; residue_cost: the constant, but for toy proofs.

    UnusableInput for what no circuit is built for.
    """
    schema, config = statement.dataset.schema, statement.config
    plan = Plan(
        graph=model.graph,
        input=model.input,
        affine=([], []),
        weights=Quantized(model),
        shapes={name: array.shape for name, array in model.params.items()},
        kind=schema.kind,
        classes=schema.classes,
        label_bytes=schema.label_bytes,
        steps=config.steps,
        batch=config.batch_size,
        rho=config.rho,
        divisor=config.divisor,
        eps=config.eps,
        variant=config.variant,
        statistic=config.statistic,
        ddof=config.ddof,
        eta=config.eta,
        hashes=hashes.reshape(config.steps, config.batch_size, sis.ROWS),
        constants=model.constants,
        residue_cost=residue_cost,
    )
    require_small(plan)
    return replace(plan, affine=input_affine(model.input, schema.kind))


def certificate(statement: Statement, model: Model, hashes: U64, residue_cost: int = RESIDUE_COST) -> Certificate:
    """Arguments as of `plan_of`."""
    return Certificate(plan_of(statement, model, hashes, residue_cost))


def start_transcript(statement: Statement, hashes: U64, multiproof: bytes, layout: Layout) -> Transcript:
    """A transcript that has absorbed everything public, the circuit and the derived parameters included."""
    t = Transcript(VERSION)
    t.absorb("statement", statement.header())
    t.absorb("listing", listing_digest(layout))
    t.absorb("indices", np.array(statement.indices(), "<u8").tobytes())
    t.absorb("sample-hashes", hashes.astype("<u8").tobytes())
    t.absorb("dataset-multiproof", multiproof)
    code = layout.code
    shape = {
        "data_end": layout.data_end,
        "digits": layout.digit_count,
        "log_n": code.log_n,
        "queries": code.queries,
        "row_bits": code.row_bits,
        "rows": code.parts,
        "levels": [[level.row_bits, level.rows, level.log_n, level.queries] for level in code.levels],
        "tables": layout.tables,
    }
    t.absorb("parameters", json.dumps(shape, sort_keys=True, separators=(",", ":")).encode())
    return t
