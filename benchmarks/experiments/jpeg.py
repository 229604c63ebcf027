"""CIFAR-10 from JPEG copies: `python -m benchmarks.experiments.jpeg COPY.npz OUT.npz`.

A copy is an .npz with `jpeg` (uint8, all files end to end), `offsets` (n + 1) and `labels` (n). JPEG loses detail: what
rests on such images is about "CIFAR-10 (JPEG copy)". Needs Pillow, which matplotlib brings along.
"""

from __future__ import annotations

import argparse
import io
import itertools
from pathlib import Path

import numpy as np

from benchmarks.extras import install
from zkcert.errors import UnusableInput
from zkcert.files.writing import output
from zkcert.public.kinds import SAMPLES

ORIGIN = "CIFAR-10 (JPEG copy)"


def is_copy(path: Path) -> bool:
    """Whether a file is such an archive of JPEG files."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {"jpeg", "offsets", "labels"} <= set(archive)
    except (OSError, ValueError, AttributeError):  # no archive; a lone array has no members
        return False


def decode(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, 3, 32, 32] and labels int64 [n] of a copy; UnusableInput if it is damaged."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise UnusableInput(f"{path} holds JPEG files, which need Pillow: {install('metric')}") from None

    with np.load(path, allow_pickle=False) as archive:
        data, offsets, labels = archive["jpeg"].tobytes(), archive["offsets"].astype(np.int64), archive["labels"]
    if len(offsets) != len(labels) + 1 or (np.diff(offsets) <= 0).any() or offsets[-1] > len(data):
        raise UnusableInput(f"{path}: offsets do not fit the images and labels")
    images = np.empty((len(labels), 3, 32, 32), np.uint8)
    for i, (start, end) in enumerate(itertools.pairwise(offsets)):
        try:
            pixels = np.asarray(Image.open(io.BytesIO(data[start:end]), formats=["JPEG"]).convert("RGB"))
        except OSError as error:
            raise UnusableInput(f"{path}: image {i} is damaged ({error})") from error
        if pixels.shape != (32, 32, 3):
            raise UnusableInput(f"{path}: image {i} has shape {pixels.shape}, not (32, 32, 3)")
        images[i] = pixels.transpose(2, 0, 1)
    return images, labels.astype(np.int64)


def convert(copy: Path, out: Path) -> None:
    """Write the decoded images as a new .npz with `x`, `y` and the `origin` that tells where they come from."""
    x, y = decode(copy)
    out.parent.mkdir(parents=True, exist_ok=True)
    with output(out, SAMPLES) as file:
        np.savez(file, x=x, y=y, origin=np.array(ORIGIN))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments.jpeg", description=__doc__)
    parser.add_argument("copy", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    try:
        convert(args.copy, args.out)
    except UnusableInput as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
