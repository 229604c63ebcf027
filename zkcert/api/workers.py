"""The workers of a cluster, for the functions that take one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from zkcert.files.extras import needs_extras

if TYPE_CHECKING:
    from prover.cluster.driver import Cluster
    from prover.phase import Phase


def check_cluster(cluster: str | Cluster | None) -> None:
    """UnusableInput for what is no address, before anything is done, or if the extra is not installed."""
    if isinstance(cluster, str):
        from prover.cluster.rays import check_address

        check_address(cluster)
        with needs_extras("a cluster", "cluster"):
            import cryptography  # noqa: F401
            import ray  # noqa: F401


@contextmanager
def gathered(cluster: str | Cluster | None, phase: Phase, **options: Any) -> Iterator[Cluster | None]:
    """The workers at an address, for as long as the block runs, or the cluster that is given.

    options: those of `prover.cluster.driver.Cluster`. Raises UnusableInput, and WorkerFailed if none can be started.
    """
    if not isinstance(cluster, str):
        yield cluster
        return
    from prover import kernels
    from prover.cluster.driver import Cluster
    from prover.cluster.rays import crew

    if not kernels.compiled():  # once, and not by every worker of this machine
        with phase("compiling (first run only)"):
            kernels.warm_up()
    with ExitStack() as stack:
        with phase("workers"):
            found = Cluster(stack.enter_context(crew(cluster)), **options)
        yield found
