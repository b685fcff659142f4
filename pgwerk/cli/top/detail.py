"""One job, opened."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from pgwerk.cli.output import words

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from pgwerk.explaining import Explanation
    from pgwerk.job import JobExecution


class Detail(ModalScreen[None]):
    CSS = """
    Detail { align: center middle; }
    Detail VerticalScroll { width: 90%; height: 90%; border: round $primary; padding: 0 1; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "dismiss(None)", "close")]

    def __init__(self, explanation: Explanation, executions: list[JobExecution]) -> None:
        super().__init__()
        self._explanation, self._executions = explanation, executions

    def compose(self) -> ComposeResult:
        job = self._explanation.job
        with VerticalScroll() as box:
            box.border_title = f"job {job.id}"
            yield Static("\n".join(self._explanation.reasons), markup=False, id="reasons")
            yield Static(_fields(asdict(job)), markup=False)
            for each in self._executions:
                yield Static(f"\nattempt {each.attempt}\n{_fields(asdict(each))}", markup=False)
        yield Footer()


def _fields(row: dict[str, Any]) -> str:
    """Those that say something."""
    return "\n".join(f"{name:<18}{words(value)}" for name, value in row.items() if value not in (None, ""))
