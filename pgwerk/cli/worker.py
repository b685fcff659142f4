from __future__ import annotations

from functools import partial
from typing import Any

import click

from pgwerk.cli.find import find_app
from pgwerk.cli.process import ignore_signals, leave_on_signals, run_to_end
from pgwerk.cli.reload import run_reloaded, take_lifeline
from pgwerk.cli.settings import configure, setting_options
from pgwerk.cli.target import heed, project_here
from pgwerk.config import WerkConfig
from pgwerk.logs import configure_logging
from pgwerk.scheduler import scheduler_of
from pgwerk.worker.health import Health
from pgwerk.worker.supervisor import Supervisor
from pgwerk.worker.worker import worker_of


@click.command()
@click.argument("app", metavar="MODULE:APP")
@click.option(
    "--queues", default="default", show_default=True,
    help="queues to take jobs from, separated by commas; high:3,low: high comes first three times as often",
)  # fmt: skip
@click.option("--schedules", is_flag=True, help="fire schedules too; any number of workers may do so")
@click.option("--burst", is_flag=True, help="stop when nothing is left that could run now")
@click.option("--reload", is_flag=True, help="start anew when a Python file of the app changes, for development")
@setting_options()
def worker(app: str, queues: str, *, schedules: bool, burst: bool, reload: bool, **settings: Any) -> None:
    """Run the jobs of an app.

    An app is named like tasks:app, and found from the current folder too. The worker runs until
    SIGTERM or Ctrl-C. Then running jobs get --shutdown-timeout to end; what has not ended by then
    goes back to the queue. A second signal cuts that short. What is not given here is as the app
    says, else as the environment says, else (dsn and schema) as [tool.pgwerk] of pyproject.toml
    says, else the default.
    """
    leave_on_signals()
    lifeline = take_lifeline()
    if reload and lifeline is None:
        config = WerkConfig.from_env().changed(**settings)
        configure_logging(config.log_level, config.log_format)
        raise SystemExit(run_reloaded(app))
    heed(project_here())
    found = find_app(app)
    configure(found, settings)
    configure_logging(found.config.log_level, found.config.log_format)
    scheduler = scheduler_of(found) if schedules else None
    runner = worker_of(found.config.worker_type)(found, _weights(queues), burst=burst, scheduler=scheduler)
    run = partial(run_to_end, runner)
    config = found.config
    if config.processes == 1 and config.max_jobs is None and config.max_memory is None and lifeline is None:
        run()
        return
    supervisor = Supervisor(
        run, config.processes, patience=config.shutdown_timeout, may_end=burst, health=Health.of(runner),
        lifeline=lifeline,
    )  # fmt: skip
    status = supervisor.run()
    ignore_signals()
    raise SystemExit(status)


def _weights(queues: str) -> dict[str, float]:
    return dict(_weight(text.strip()) for text in queues.split(","))


def _weight(text: str) -> tuple[str, float]:
    """A queue's own name may hold colons: only a number behind the last one is a weight."""
    name, colon, number = text.rpartition(":")
    try:
        return (name, float(number)) if colon else (text, 1.0)
    except ValueError:
        return text, 1.0
