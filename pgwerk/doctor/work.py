"""Who does the work, and what there is of it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from pgwerk.doctor.finding import failure, ok, warning
from pgwerk.fitting import fit

if TYPE_CHECKING:
    from pgwerk.doctor.finding import Finding, Patient
    from pgwerk.store.doctor import Present, Unattended

LOOK = 0.25  # seconds between two looks at the workers' beats


async def workers(patient: Patient) -> Finding:
    """Those that are alive raise their beat, and none has died in the last day."""
    present = await patient.ask(patient.store.roll_call())
    dead = [worker for worker in present if worker.state == "dead"]
    silent = await _silent(patient, [worker for worker in present if worker.state == "alive"])
    if silent:
        held = sum(worker.running for worker in silent)
        return failure(
            f"without a beat for {max(worker.patience for worker in silent):.0f} s: {_named(silent)}; "
            f"{held} jobs are in their hands",
            "start a worker: it declares them dead and takes their jobs back within seconds",
        )
    alive = len(present) - len(dead)
    if dead:
        return warning(
            f"{alive} are alive; in the last day these died, and their jobs were taken back: {_named(dead)}",
            "their own logs, and the kernel's (out of memory), say why",
        )
    return ok(f"{alive} are alive" if alive else "none is there")


async def _silent(patient: Patient, workers: list[Present]) -> list[Present]:
    """Those of them that do not raise their beat within their own patience; nothing else proves that one is alive."""
    start, waited_for = time.monotonic(), {worker.id: worker for worker in workers}
    silent: list[Present] = []
    while waited_for:
        await asyncio.sleep(LOOK)
        now = {worker.id: worker for worker in await patient.ask(patient.store.roll_call()) if worker.state == "alive"}
        for number, worker in list(waited_for.items()):
            if number not in now or now[number].beat != worker.beat:
                del waited_for[number]
            elif time.monotonic() - start > worker.patience:
                silent.append(waited_for.pop(number))
    return silent


async def queues(patient: Patient) -> Finding:
    """Each queue with jobs that could run has a worker that takes them, and is not paused."""
    unattended = await patient.ask(patient.store.unattended())
    deserted = [each for each in unattended if each.paused_at is None]
    if deserted:
        names = ",".join(each.queue for each in deserted)
        return failure(f"no live worker takes jobs from {_counted(deserted)}", f"werk worker APP --queues {names}")
    if unattended:
        return warning(f"paused: {_counted(unattended)}", f"werk queues resume {unattended[0].queue}")
    return ok("every queue with jobs that could run has a live worker")


async def functions(patient: Patient) -> Finding:
    """The functions of jobs that have not started, of their callbacks and of schedules are found from here."""
    fitting = await fit(patient.database, patient.serializer, patient.config.allow)
    missing = [misfit for misfit in fitting.misfits if misfit.is_missing]
    if missing:
        words = ", ".join(f"{misfit.function} ({misfit.jobs or 'scheduled'} jobs)" for misfit in missing)
        return failure(
            f"not found from here: {words}; {missing[0].reason}",
            f"deploy the code that has it, or werk cancel --function {missing[0].function}",
        )
    return ok(f"those of all {fitting.jobs} jobs that have not started are here; werk check tries their arguments too")


def _named(workers: list[Present]) -> str:
    return ", ".join(worker.name for worker in workers)


def _counted(queues: list[Unattended]) -> str:
    return ", ".join(f"{each.queue!r} ({each.jobs} jobs)" for each in queues)
