"""Workers as actors of Ray: on this machine, or one on each machine of a cluster that runs already."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from zkcert.errors import UnusableInput
from zkcert.files import signals

from . import WorkerFailed

if TYPE_CHECKING:
    from .sealing import Message
    from .station import Greeting, Use

MOST_WORKERS = 64
START_SECONDS = 300.0
"""In which all workers must have said something; the first time, their machines may compile."""

ADDRESS = re.compile(r"local:([0-9]{1,3})|ray://[^\s/]+:[0-9]{1,5}")


class Actor:
    """What Ray runs. Imports numba only once it knows on which cores."""

    def __init__(self, cores: Sequence[int] | None) -> None:
        if cores:
            os.sched_setaffinity(0, cores)
        from .station import Station

        self._station = Station()

    def greet(self, public: bytes) -> Greeting:
        return self._station.greet(public)

    def admit(self, sealed: Message) -> None:
        self._station.admit(sealed)

    def do(self, request: Message, *others: Message) -> Message:
        return self._station.do(request, *others)

    def uses(self) -> dict[str, Use]:
        return self._station.uses()


class RayCrew:
    """Implements `prover.cluster.driver.Crew`."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self.actors, self.size = actors, len(actors)
        self._names = [f"worker {i + 1} of {len(actors)}" for i in range(len(actors))]

    def greet(self, public: bytes) -> list[Greeting]:
        greetings = self._get([actor.greet.remote(public) for actor in self.actors], START_SECONDS)
        for i, greeting in enumerate(greetings):
            self._names[i] += f", process {greeting.process} on {greeting.host},"
        return greetings

    def admit(self, sealed: Sequence[Message]) -> None:
        self._get([actor.admit.remote(own) for actor, own in zip(self.actors, sealed, strict=True)])

    def ask(self, worker: int, request: Message, others: Sequence[Any]) -> Any:
        return worker, self.actors[worker].do.remote(request, *(reference for _, reference in others))

    def replies(self, references: Sequence[Any]) -> list[Message]:
        return self._get([reference for _, reference in references])

    def first(self, references: Sequence[Any]) -> int:
        import ray

        own = [reference for _, reference in references]
        return own.index(ray.wait(own, num_returns=1, fetch_local=False)[0][0])

    def uses(self) -> list[dict[str, Use]]:
        return self._get([actor.uses.remote() for actor in self.actors])

    def _get(self, references: Sequence[Any], timeout: float | None = None) -> list[Any]:
        import ray

        try:
            return ray.get(list(references), timeout=timeout)
        except ray.exceptions.GetTimeoutError as error:
            raise WorkerFailed(f"the workers did not start within {timeout:.0f} s: is the cluster busy?") from error
        except (ray.exceptions.RayError, ConnectionError) as error:
            raise WorkerFailed(f"{self._lost()} lost: {_reason(error)}") from error

    def _lost(self) -> str:
        """Which workers do not answer."""
        import ray

        lost = []
        for name, actor in zip(self._names, self.actors, strict=True):
            try:
                ray.get(actor.uses.remote(), timeout=1)
            except ray.exceptions.GetTimeoutError:  # busy
                continue
            except (ray.exceptions.RayError, ConnectionError):
                lost.append(name)
        return f"{lost[0]} is" if lost else "the work of a worker is"


def _reason(error: Exception) -> str:
    """One line of what Ray says."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]


def check_address(address: str) -> int | None:
    """The number of workers of local:W, None for ray://HOST:PORT; UnusableInput for anything else."""
    match = ADDRESS.fullmatch(address)
    if not match or (match[1] and not 1 <= int(match[1]) <= MOST_WORKERS):
        raise UnusableInput(
            f"--cluster takes local:W, with 1 to {MOST_WORKERS} workers on this machine, or ray://HOST:PORT, "
            f"not {address[:60]!r}"
        )
    return int(match[1]) if match[1] else None


@contextmanager
def crew(address: str) -> Iterator[RayCrew]:
    """Workers for as long as the block runs: W on this machine, which share its cores, for local:W, else one on each
    machine of the cluster at ray://HOST:PORT.

    Raises UnusableInput, also where this process uses Ray already. What Ray writes on this machine lies in a folder of
    its own, which is removed: logs, and sealed messages if its shared memory is full.
    """
    workers = check_address(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to Ray's makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        raise UnusableInput("this process uses Ray already: call ray.shutdown() first")
    with tempfile.TemporaryDirectory(prefix="zkcert-", ignore_cleanup_errors=True) as folder:
        actors: list[Any] = []
        try:
            with _own_signals():
                actors += _started(ray, address) if workers is None else _local(ray, workers, folder)
            yield RayCrew(actors)
        finally:
            with signals.held():
                for actor in actors:
                    with suppress(Exception):
                        ray.kill(actor)
                ray.shutdown()


def _local(ray: Any, workers: int, folder: str) -> list[Any]:
    """Actors of a Ray of this process's own."""
    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    try:
        ray.init(address="local", num_cpus=workers, _temp_dir=folder, **options)
    except Exception as error:  # of no class of its own, where the machine is too busy
        raise WorkerFailed(f"Ray cannot be started on this machine ({_reason(error)})") from error
    cores = sorted(os.sched_getaffinity(0))
    remote = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(Actor)
    shares = [cores[i::workers] or [cores[i % len(cores)]] for i in range(workers)]
    return [remote.remote(share) for share in shares]


def _started(ray: Any, address: str) -> list[Any]:
    """Actors on the machines of a cluster."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    try:
        with warnings.catch_warnings(action="ignore"):  # the error says it
            ray.init(address, log_to_driver=False, logging_level="ERROR")
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    except Exception as error:  # of several classes, and of none of its own
        token = "" if "RAY_AUTH_MODE" in os.environ else "; if it asks for a token, set RAY_AUTH_MODE=token"
        raise UnusableInput(f"{address}: no cluster can be reached there ({_reason(error)}){token}") from error
    if not 1 <= len(nodes) <= MOST_WORKERS:
        raise UnusableInput(
            f"{address}: a cluster of 1 to {MOST_WORKERS} machines with cores is needed, not {len(nodes)}"
        )
    remote = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(Actor)
    places = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
    return [remote.options(scheduling_strategy=place).remote(None) for place in places]


@contextmanager
def _own_signals() -> Iterator[None]:
    """Signals keep the meaning that they have here, which `ray.init` takes from them."""
    numbers = [getattr(signal, f"SIG{name}", None) for name in signals.ENDING]
    before = {number: signal.getsignal(number) for number in numbers if number is not None}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:
                with suppress(ValueError):  # of a thread, where Ray leaves them alone
                    signal.signal(number, handler)
