"""What becomes of an attempt: one pure decision, one value."""

from __future__ import annotations

import traceback
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from pgwerk.errors import HandlerNotFound, NotSerializable, ProcessDied, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST_BACKOFF = 300.0  # seconds
LONGEST_ERROR = 2**20  # characters
JITTER = 0.1  # of the backoff, added at random so that jobs that failed together do not come back together
_TELLS_ALL = (HandlerNotFound, NotSerializable, ProcessDied)  # errors whose words are enough: no handler's traceback


class Reported(Exception):
    """What a handler raised in another process: in words, and as the exception if that could travel."""

    def __init__(self, text: str, error: BaseException) -> None:
        super().__init__(text)
        self.text, self.error = text, error


class Verdict(Enum):
    """How an attempt came to its end."""

    RETURNED = auto()
    RAISED = auto()
    LOST = auto()  # its worker died
    INTERRUPTED = auto()  # the worker stops
    UNSTARTED = auto()  # claimed, and handed back before it began
    EXPIRED = auto()  # not started within its `_ttl`
    ABORTED = auto()  # somebody asked for its end


class Attempt(NamedTuple):
    """As much of a claimed job as the decision needs."""

    number: int
    max_attempts: int
    retry_intervals: Sequence[float] | None = None
    before: int = 0
    """Attempts used up before it was last requeued."""


class Decision(NamedTuple):
    status: str
    """complete, failed, aborted; retry (uses up the attempt); back and unstarted (do not)."""

    delay: float = 0.0
    """Seconds before the next attempt."""


class Ran(NamedTuple):
    """What an attempt was, for the tally."""

    queue: str
    function: str
    seconds: float | None
    """None: its handler was never called."""


class Outcome(NamedTuple):
    """What is to be stored of an attempt, and the claim that must still stand for it. Without a worker: a job
    that had not been claimed, wherever it waits.
    """

    job_id: int
    worker_id: int | None
    claim_no: int | None
    status: str
    delay: float = 0.0
    result: bytes | None = None
    error: str | None = None
    attempt: Attempt | None = None
    """Of which it is the outcome, in case another one has to be decided on."""

    expired: bool = False
    """Only if the job may still expire: it has not been claimed in the meantime."""

    is_grouped: bool = True
    """Its end may let another one of its group run."""

    has_sequel: bool = True
    """Something may follow its end: a callback, another run, a lifetime of its own."""

    ran: Ran | None = None
    """Whoever reports it counts it; None: the statement that ends it does."""

    tries: int = 0
    """How often the server has taken too long over it alone."""

    @property
    def claim(self) -> tuple[int, int | None]:
        """Names this attempt among all that a worker ever has."""
        return self.job_id, self.claim_no

    @property
    def size(self) -> int:
        return len(self.result or b"") + len(self.error or "")

    @property
    def returns(self) -> bool:
        """The job does not end with this attempt."""
        return self.status in ("retry", "back", "unstarted")

    @property
    def statement(self) -> str:
        """Which one stores it (ending.sql)."""
        if self.returns:
            return "send_back"
        return "settle" if self.has_sequel or self.status != "complete" else "complete"

    def aborted(self) -> Outcome:
        has_begun = self.status != "unstarted"  # what has not is settled as one that expired: it used no attempt
        words = "aborted while it ran" if has_begun else "aborted before it ran"
        return self._replace(status="aborted", delay=0.0, error=words, expired=not has_begun)

    def wire(self) -> dict[str, Any]:
        guarded = {
            "job_id": self.job_id,
            "worker_id": self.worker_id,
            "claim_no": self.claim_no,
            "result": None if self.result is None else orjson.Fragment(self.result),
        }
        if self.statement == "complete":
            return guarded
        return guarded | {
            "status": self.status,
            "delay": self.delay,
            "error": None if self.error is None else storable(self.error),
            "expired": self.expired,
            "has_sequel": self.has_sequel,
            "is_counted": self.ran is not None,
        }


_COMPLETE = Decision("complete")


def decide(verdict: Verdict, attempt: Attempt, chance: float) -> Decision:
    """The table of what follows from what; `chance` (0 to 1) spreads the retries."""
    match verdict:
        case Verdict.RETURNED:
            return _COMPLETE
        case Verdict.INTERRUPTED:
            return Decision("back")
        case Verdict.UNSTARTED:
            return Decision("unstarted")
        case Verdict.EXPIRED | Verdict.ABORTED:
            return Decision("aborted")
        case Verdict.RAISED | Verdict.LOST if attempt.number >= attempt.max_attempts:
            return Decision("failed")
        case Verdict.RAISED:
            return Decision("retry", backoff(attempt, chance))
        case Verdict.LOST:
            return Decision("retry")


def backoff(attempt: Attempt, chance: float) -> float:
    """Seconds before the retry that follows this attempt."""
    number = attempt.number - attempt.before
    if attempt.retry_intervals:
        return attempt.retry_intervals[min(number, len(attempt.retry_intervals)) - 1]
    doubled = 2.0 ** min(number, 10)
    return min(doubled * (1 + JITTER * chance), LONGEST_BACKOFF)


def described(error: BaseException) -> str:
    """In words, whatever it is, and whatever its own code does when it is asked for them."""
    try:
        return str(error) if isinstance(error, _TELLS_ALL) else _traced(error)
    except BaseException:  # noqa: BLE001 - foreign code may raise anything, and the attempt has to end with some words
        return f"{type(error).__qualname__}: {one_line(error)}"


def _traced(error: BaseException) -> str:
    """The traceback from the handler on: the frames that called it are the worker's and say nothing."""
    handler = frame = error.__traceback__
    while frame is not None:
        if str(frame.tb_frame.f_globals.get("__name__")).startswith("pgwerk.worker."):
            handler = frame.tb_next
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, handler)).rstrip()


def expired(ttl: float | None) -> str:
    return f"expired: not started within {ttl or 0:g} s after it became due"


def storable(text: str) -> str:
    """Postgres takes no NUL and no half of a surrogate pair, and nobody reads more than so much."""
    return text[:LONGEST_ERROR].replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
