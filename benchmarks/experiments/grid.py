"""Parallel maps over independent tasks: processes by joblib, or tasks on a Ray cluster, with equal results."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from benchmarks.extras import install
from zkcert.errors import UnusableInput

if TYPE_CHECKING:
    from benchmarks.experiments.common import Context

Item = TypeVar("Item")
Value = TypeVar("Value")

_OBJECT_STORE = 200_000_000  # bytes; tasks return numbers
_IDLE_SECONDS = 24 * 3600  # before joblib's processes end; ends that race with a new task make it warn


class TaskFailed(RuntimeError):
    """A task raised; the message names its item, and holds the traceback."""


def run_grid(
    function: Callable[[Item, Context], Value], items: Sequence[Item], context: Context, label: str
) -> list[Value]:
    """[function(item, context) for item in items], in that order, however the work is spread.

    function  can be pickled: of a module, or a `functools.partial` of one.
    label     of the progress bar and of errors.

    Each task has one thread for PyTorch. `context.cluster` is the address of a Ray cluster ("ray://host:10001"), or
    "local" for one of `context.jobs` processes on this machine; None: joblib with `context.jobs` processes, or this
    process where that is 1. A Ray that this process is connected to already is used as it is. On a cluster, data and
    `context.out` must be at the same paths everywhere. A progress bar shows on a terminal.

    Raises TaskFailed, or UnusableInput if that is what the task raised, naming the item.
    """
    results: list[Value] = []
    if not items:
        return results
    with closing(_spread(function, items, context)) as outcomes:  # ends what is still running if a task fails
        for item, (value, failure) in zip(items, _shown(outcomes, len(items), label), strict=True):
            if failure is not None:
                refused, message = failure
                raise (UnusableInput if refused else TaskFailed)(f"{label}: {item}: {message}")
            results.append(value)
    return results


Outcome = tuple[Any, tuple[bool, str] | None]
Outcomes = Generator[Outcome, None, None]


def attempt(function: Callable[[Any, Context], Any], item: Any, context: Context) -> Outcome:
    """(value, None), or (None, (whether it is an UnusableInput, message)); one thread meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(item, context), None
    except UnusableInput as error:
        return None, (True, str(error))
    except Exception:
        return None, (False, traceback.format_exc())
    finally:
        torch.set_num_threads(threads)


def _spread(function: Callable[[Any, Context], Any], items: Sequence[Any], context: Context) -> Outcomes:
    if context.cluster is not None:
        return _on_ray(function, items, context)
    if context.jobs == 1:
        return (attempt(function, item, context) for item in items)
    return _on_joblib(function, items, context)


def _on_joblib(function: Callable[[Any, Context], Any], items: Sequence[Any], context: Context) -> Outcomes:
    try:
        from joblib import Parallel, delayed
    except ModuleNotFoundError:
        raise UnusableInput(f"several jobs need joblib: {install('metric')}") from None
    schedule = {"return_as": "generator", "pre_dispatch": "2*n_jobs", "batch_size": 1}
    parallel = Parallel(n_jobs=context.jobs, idle_worker_timeout=_IDLE_SECONDS, **schedule)
    yield from parallel(delayed(attempt)(function, item, context) for item in items)


def _on_ray(function: Callable[[Any, Context], Any], items: Sequence[Any], context: Context) -> Outcomes:
    try:
        import ray
    except ModuleNotFoundError:
        raise UnusableInput(f"--cluster needs Ray: {install('metric', 'cluster')}") from None
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, logging_level="error", **_ray_options(context))
    try:
        gpus = 1 if context.device == "cuda" else 0
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=1)(attempt)
        for reference in [task.remote(function, item, context) for item in items]:
            yield ray.get(reference)
    finally:
        if started:
            ray.shutdown()


def _ray_options(context: Context) -> dict[str, Any]:
    """Of `ray.init`; the code travels along to a cluster elsewhere."""
    if context.cluster == "local":
        return {"num_cpus": context.jobs, "object_store_memory": _OBJECT_STORE, "include_dashboard": False}
    import benchmarks
    import zkcert

    return {"address": context.cluster, "runtime_env": {"py_modules": [benchmarks, zkcert]}}


def _shown(outcomes: Iterable[Outcome], count: int, label: str) -> Iterator[Outcome]:
    """The outcomes, counted by a progress bar on stderr if that is a terminal."""
    if not sys.stderr.isatty():
        yield from outcomes
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=count)
        for outcome in outcomes:
            progress.advance(task)
            yield outcome
