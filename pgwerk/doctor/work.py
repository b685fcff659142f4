"""Who does the work, and what there is of it."""

from __future__ import annotations

import asyncio
import time
from shlex import quote
from typing import TYPE_CHECKING

from pgwerk.doctor.finding import failure, ok, warning
from pgwerk.explaining import MOST_COUNTED
from pgwerk.fitting import fit
from pgwerk.overview import QueueInfo
from pgwerk.store.overview import OverviewStore

if TYPE_CHECKING:
    from pgwerk.doctor.finding import Finding, Patient
    from pgwerk.fitting import Misfit
    from pgwerk.store.doctor import Present

LOOK = 0.25  # seconds between two looks at the workers' beats
LONGEST = 30.0  # seconds of looking, however patient others are with a worker


async def workers(patient: Patient) -> Finding:
    """Those that are alive raise their beat, and none has died in the last day."""
    present = await patient.ask(patient.store.roll_call())
    dead = [worker for worker in present if worker.state == "dead"]
    unproven = await _silent(patient, [worker for worker in present if worker.state == "alive"])
    silent = [worker for worker in unproven if worker.patience <= LONGEST]
    if silent:
        held = sum(worker.running for worker in silent)
        return failure(
            f"without a beat for {max(worker.patience for worker in silent):.0f} s: {_named(silent)}; "
            f"{held} jobs are in their hands",
            "start a worker: it declares them dead and takes their jobs back within seconds",
        )
    if unproven:
        return warning(
            f"not proven to be alive within {LONGEST:.0f} s: {_named(unproven)}",
            f"look again; others wait {max(worker.patience for worker in unproven):.0f} s for their next beat",
        )
    alive = len(present) - len(dead)
    if dead:
        return warning(
            f"{alive} are alive; in the last day these died, and their jobs were taken back: {_named(dead)}",
            "their own logs, and the kernel's (out of memory), say why",
        )
    return ok(f"{alive} are alive" if alive else "none is there")


async def _silent(patient: Patient, workers: list[Present]) -> list[Present]:
    """Those of them that do not raise their beat in time; nothing else proves that one is alive."""
    start, waited_for = time.monotonic(), {worker.id: worker for worker in workers}
    silent: list[Present] = []
    while waited_for:
        await asyncio.sleep(LOOK)
        now = {worker.id: worker for worker in await patient.ask(patient.store.roll_call()) if worker.state == "alive"}
        for number, worker in list(waited_for.items()):
            if number not in now or now[number].beat != worker.beat:
                del waited_for[number]
            elif time.monotonic() - start > min(worker.patience, LONGEST):
                silent.append(waited_for.pop(number))
    return silent


async def queues(patient: Patient) -> Finding:
    """Each queue with jobs that could run has a worker that takes them, and is not paused."""
    store = OverviewStore(patient.database.schema)
    found = [QueueInfo(**row) for row in await patient.ask(store.list_queues(MOST_COUNTED))]
    overdue = await patient.ask(patient.store.overdue(MOST_COUNTED))
    standing = [each for each in found if each.queued or each.queue in overdue]
    deserted = [each for each in standing if not each.paused_at and not each.workers]
    paused = [each for each in standing if each.paused_at]
    resting = f"paused: {_counted(paused, overdue)}"
    if deserted:
        words = f"no live worker takes jobs from {_counted(deserted, overdue)}"
        return failure(f"{words}; {resting}" if paused else words, _worker_for([each.queue for each in deserted]))
    if paused:
        return warning(resting, f"werk queues resume {quote(paused[0].queue)}")
    return ok("every queue with jobs that could run has a live worker")


def _worker_for(queues: list[str]) -> str:
    """On the command line a comma ends a name, and a number behind a colon is a weight."""
    if any("," in queue for queue in queues):
        return f"AsyncWorker(app, queues={queues!r})"
    return f"werk worker APP --queues {quote(','.join(f'{queue}:1' if ':' in queue else queue for queue in queues))}"


async def functions(patient: Patient) -> Finding:
    """The functions of jobs that have not started, of their callbacks and of schedules are found from here."""
    fitting = await fit(patient.database, patient.serializer, patient.config.allow)
    missing = [misfit for misfit in fitting.misfits if misfit.is_missing]
    if not missing:
        words = f"those of all {fitting.jobs} jobs that have not started are here"
        return ok(f"{words}; werk check tries their arguments too")
    words = f"not found from here: {', '.join(map(_called, missing))}; {missing[0].reason}"
    if not patient.is_app_known:
        return warning(words, "name the app with -a: a DSN alone does not say where its code is")
    return failure(words, f"deploy the code that has it{_or_else(missing[0])}")


def _called(misfit: Misfit) -> str:
    if misfit.schedule is not None:
        return f"{misfit.function} (scheduled as {misfit.schedule!r})"
    return f"{misfit.function} ({'called back by ' if misfit.is_callback else ''}{misfit.jobs} jobs)"


def _or_else(misfit: Misfit) -> str:
    """Jobs whose callback is missing run all the same."""
    if misfit.schedule is not None:
        return f", or werk schedules delete {quote(misfit.schedule)}"
    return "" if misfit.is_callback else f", or werk cancel --function {misfit.function}"


def _named(workers: list[Present]) -> str:
    return ", ".join(worker.name for worker in workers)


def _counted(queues: list[QueueInfo], overdue: dict[str, int]) -> str:
    """A plus where not all were counted."""
    jobs = {each.queue: each.queued + overdue.get(each.queue, 0) for each in queues}
    cut = {each.queue for each in queues if {"queued", "scheduled"} & {*each.at_least}}
    return ", ".join(f"{name!r} ({count}{'+' if name in cut else ''} jobs)" for name, count in jobs.items())
