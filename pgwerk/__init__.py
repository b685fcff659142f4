"""A job queue on the Postgres you already have."""

from pgwerk.app import Werk
from pgwerk.config import WerkConfig
from pgwerk.context import Context
from pgwerk.errors import (
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
    SchemaError,
    SchemaMissing,
    SchemaTooNew,
    SchemaTooOld,
    ServerUnreachable,
    WerkError,
)
from pgwerk.job import ExecutionStatus, Job, JobExecution, JobStatus
from pgwerk.logs import configure_logging
from pgwerk.params import EnqueueParams, Retry
from pgwerk.serializers import JSONSerializer, Serializer
from pgwerk.worker.worker import AsyncWorker

__all__ = [
    "AsyncWorker",
    "Context",
    "EnqueueParams",
    "ExecutionStatus",
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
    "Retry",
    "SchemaError",
    "SchemaMissing",
    "SchemaTooNew",
    "SchemaTooOld",
    "Serializer",
    "ServerUnreachable",
    "Werk",
    "WerkConfig",
    "WerkError",
    "configure_logging",
]
