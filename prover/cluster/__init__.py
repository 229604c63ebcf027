"""Proving on more than one machine: workers keep rows of the matrix and shares of trees, and the driver does the rest.

`station` is what a worker does, `driver` what the driver asks of the workers, `parts` and `trees` two answers of the
oracle in which they take part. None of these knows how the workers are reached: `rays` does, with Ray. All that leaves
a process is sealed (`sealing`), and the bytes of a proof are those of one that is made alone.
"""

from zkcert.errors import ZkcertError


class WorkerFailed(ZkcertError):
    """A worker is lost, or cannot go on. No proof is written."""
