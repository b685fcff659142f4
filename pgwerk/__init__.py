"""A job queue on the Postgres you already have."""

from pgwerk.app import Werk
from pgwerk.config import DequeueStrategy, WerkConfig
from pgwerk.context import Context
from pgwerk.dependencies import Dependency
from pgwerk.errors import (
    DependencyFailed,
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
    SchemaError,
    SchemaMissing,
    SchemaTooNew,
    SchemaTooOld,
    ServerUnreachable,
    WerkError,
)
from pgwerk.job import ExecutionStatus, Job, JobExecution, JobStatus
from pgwerk.logs import configure_logging
from pgwerk.overview import QueueStats, ServerInfo, Throughput, WorkerInfo
from pgwerk.params import Callback, EnqueueParams, FailureMode, Repeat, Retry
from pgwerk.serializers import JSONSerializer, PickleSerializer, Serializer
from pgwerk.typed import TypedJSONSerializer
from pgwerk.worker.worker import AsyncWorker, ForkWorker, ProcessWorker, ThreadWorker

__all__ = [
    "AsyncWorker",
    "Callback",
    "Context",
    "Dependency",
    "DependencyFailed",
    "DequeueStrategy",
    "EnqueueParams",
    "ExecutionStatus",
    "FailureMode",
    "ForkWorker",
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
    "MissingExtra",
    "NotConnected",
    "NotSerializable",
    "PickleSerializer",
    "ProcessDied",
    "ProcessWorker",
    "QueueStats",
    "Repeat",
    "Retry",
    "SchemaError",
    "SchemaMissing",
    "SchemaTooNew",
    "SchemaTooOld",
    "Serializer",
    "ServerInfo",
    "ServerUnreachable",
    "ThreadWorker",
    "Throughput",
    "TypedJSONSerializer",
    "Werk",
    "WerkConfig",
    "WerkError",
    "WorkerInfo",
    "configure_logging",
]
