"""CSV files that nobody vouches for: a sample a line, numbers, and one column of labels. Time and memory are linear in
the size of the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from zkcert.data.arrays import FLOAT_LIMIT, Options, Raw, number_texts, taken_as_bytes
from zkcert.data.columns import LABELS, label_column

MAX_LINE = 1 << 22  # bytes
_CELLS = 1 << 20  # made into an array at a time
_HEAD = 4096
CSV_SUFFIXES = (".csv", ".tsv", ".txt")


def is_text(head: bytes) -> bool:
    """Whether a file that begins so may be a table as text."""
    return not any(byte < 32 and byte not in b"\t\r\n" for byte in head)


def read_csv(file: BinaryIO, options: Options) -> Raw:
    """Samples (N, d): uint8 if all are whole numbers from 0 to 255, else float32; labels, numbers or texts. ValueError.

    The separator is a comma, else a semicolon or a tab, whichever the first line has. A first line of numbers, of which
    one may be a text if it is no usual name of labels, is a sample; any other has the columns' names.
    """
    rows = _rows(file)
    try:
        first = next(rows, None)
        if first is None:
            raise ValueError("it is empty")
        names = [cell.strip() for cell in first]
        texts = [name for name in names if not _is_number(name)]
        named = len(texts) > 1 or any(name.lower() in LABELS for name in texts)
        if len(names) < 2:
            raise ValueError("it has one column; expected numbers and a label, separated by commas")
        at = label_column(names, options.label, named=named)
        if named and "" in names:
            raise ValueError(
                f"column {names.index('')} has no name: if it is an index, as pandas writes one, leave it out "
                "(to_csv(index=False)); else name it"
            )
        table = _Table(names if named else None, at)
        if not named:
            table.add(first)
        for row in rows:
            if row:  # blank lines are none
                table.add(row)
        return table.raw(options)
    except csv.Error as error:
        raise ValueError(f"no table ({error})") from error


def _rows(file: BinaryIO) -> Iterator[list[str]]:
    """The cells of each line."""
    start = file.peek(_HEAD)[:_HEAD] if isinstance(file, io.BufferedReader) else b""
    line = start.split(b"\n", 1)[0]
    delimiter = next((mark for mark in ",;\t" if mark.encode() in line), ",")
    return csv.reader(_lines(file), delimiter=delimiter, strict=True)


def _lines(file: BinaryIO) -> Iterator[str]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise ValueError(f"line {number} has more than {MAX_LINE} bytes")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"line {number} is no UTF-8 text") from error


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell


class _Table:
    """Rows as they come."""

    def __init__(self, names: list[str] | None, at: int) -> None:
        self.names, self.at, self.count = names, at, 0
        self.width: int | None = None if names is None else len(names)
        self.rows: list[list[float]] = []
        self.parts: list[npt.NDArray[np.float32]] = []
        self.labels: list[str] = []
        self.is_bytes = True

    def add(self, row: list[str]) -> None:
        """Raises ValueError, which says where something is wrong."""
        self.count += 1
        width = self.width = self.width or len(row)
        if len(row) != width:
            raise ValueError(f"sample {self.count} has {len(row)} cells, others have {width}")
        label = row.pop(self.at).strip()
        if not label:
            raise ValueError(f"sample {self.count} has no label: leave it out")
        self.labels.append(label)
        try:
            self.rows.append([float(cell) for cell in row])
            if any("_" in cell or not cell.isascii() for cell in row):
                raise ValueError
        except ValueError:
            column = next(i for i, cell in enumerate(row) if not _is_number(cell))
            cell = row[column].strip()
            what = f"holds {ascii(cell)[:40]}, which is no number" if cell else "is empty"
            raise ValueError(
                f"{self.column(column)} of sample {self.count} {what}: make numbers of it, or leave the "
                f"{'column' if cell else 'sample'} out"
            ) from None
        if len(self.rows) * width >= _CELLS:
            self.pack()

    def column(self, place: int) -> str:
        """What to call a column of the samples."""
        place += place >= self.at
        return f"column {place}" if self.names is None else f"column {ascii(self.names[place])[1:-1][:60]}"

    def pack(self) -> None:
        """Make an array of the rows so far."""
        block = np.array(self.rows, np.float64).reshape(len(self.rows), -1)
        self.rows = []
        large = ~(np.abs(block) < FLOAT_LIMIT)  # also those that are no numbers
        if large.any():
            row, place = np.argwhere(large)[0]
            value = block[row, place]
            mend = "leave the sample out" if not np.isfinite(value) else f"scale it to |x| < {FLOAT_LIMIT:g}"
            raise ValueError(
                f"{self.column(int(place))} of sample {self.count - len(block) + 1 + int(row)} is {value:g}: {mend}"
            )
        self.is_bytes = self.is_bytes and bool(((block >= 0) & (block <= 255) & (block == np.floor(block))).all())
        self.parts.append(block.astype(np.float32))

    def raw(self, options: Options) -> Raw:
        """All of it."""
        if self.rows:
            self.pack()
        if not self.parts:
            raise ValueError("it has no samples")
        x: npt.NDArray[Any] = np.concatenate(self.parts)
        if self.is_bytes and options.values != "float32":
            x = x.astype(np.uint8)
        return Raw(x, *self.numbered(), tuple(taken_as_bytes(x, options)))

    def numbered(self) -> tuple[npt.NDArray[Any], tuple[str, ...] | None]:
        """The labels: numbers if all are, else the places of texts, and the texts."""
        if all(map(_is_number, self.labels)):
            return np.array([float(text) for text in self.labels]), None
        return number_texts(self.labels)
