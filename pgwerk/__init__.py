"""A job queue on the Postgres you already have."""

from typing import TYPE_CHECKING, Any

from pgwerk.app import Werk
from pgwerk.config import DequeueStrategy, WerkConfig
from pgwerk.context import Context
from pgwerk.dependencies import Dependency
from pgwerk.errors import (
    DependencyFailed,
    FunctionNotAllowed,
    HandlerNotAllowed,
    HandlerNotFound,
    InvalidOption,
    InvalidType,
    JobError,
    JobNotFound,
    JobTimeout,
    KeyIsHeld,
    MissingExtra,
    NotConnected,
    NotSerializable,
    ProcessDied,
    ScheduleExists,
    ScheduleNotFound,
    SchemaError,
    SchemaMissing,
    SchemaTooNew,
    SchemaTooOld,
    ServerUnreachable,
    TableIsLocked,
    WerkError,
)
from pgwerk.explaining import Explanation
from pgwerk.job import ExecutionStatus, Job, JobExecution, JobStatus
from pgwerk.logs import configure_logging
from pgwerk.overview import FunctionStats, QueueInfo, QueueStats, ServerInfo, Throughput, WorkerInfo
from pgwerk.params import Callback, EnqueueParams, FailureMode, Repeat, Retry
from pgwerk.schedule import Missed, Overlap, Schedule, ScheduleParams
from pgwerk.scheduler import Scheduler, Unregistered
from pgwerk.serializers import JSONSerializer, PickleSerializer, Serializer
from pgwerk.typed import TypedJSONSerializer

if TYPE_CHECKING:
    from pgwerk.worker.worker import AsyncWorker, ForkWorker, ProcessWorker, ThreadWorker
else:

    def __getattr__(name: str) -> Any:
        """A program that enqueues or asks need not import the workers: they are a third of all there is."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from pgwerk.worker import worker  # noqa: PLC0415

        return getattr(worker, name)


__all__ = [
    "AsyncWorker",
    "Callback",
    "Context",
    "Dependency",
    "DependencyFailed",
    "DequeueStrategy",
    "EnqueueParams",
    "ExecutionStatus",
    "Explanation",
    "FailureMode",
    "ForkWorker",
    "FunctionNotAllowed",
    "FunctionStats",
    "HandlerNotAllowed",
    "HandlerNotFound",
    "InvalidOption",
    "InvalidType",
    "JSONSerializer",
    "Job",
    "JobError",
    "JobExecution",
    "JobNotFound",
    "JobStatus",
    "JobTimeout",
    "KeyIsHeld",
    "Missed",
    "MissingExtra",
    "NotConnected",
    "NotSerializable",
    "Overlap",
    "PickleSerializer",
    "ProcessDied",
    "ProcessWorker",
    "QueueInfo",
    "QueueStats",
    "Repeat",
    "Retry",
    "Schedule",
    "ScheduleExists",
    "ScheduleNotFound",
    "ScheduleParams",
    "Scheduler",
    "SchemaError",
    "SchemaMissing",
    "SchemaTooNew",
    "SchemaTooOld",
    "Serializer",
    "ServerInfo",
    "ServerUnreachable",
    "TableIsLocked",
    "ThreadWorker",
    "Throughput",
    "TypedJSONSerializer",
    "Unregistered",
    "Werk",
    "WerkConfig",
    "WerkError",
    "WorkerInfo",
    "configure_logging",
]
