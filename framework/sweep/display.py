"""What a sweep shows while its jobs run side by side."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from framework.callbacks.live_line import Screen
from framework.core.statuses import PRUNED
from framework.sweep.claim import Standing
from framework.sweep.record import JobEntry, Objective
from framework.sweep.table import best_of, values
from framework.text.escape import one_line
from framework.text.readable import clock_time, short_numbers
from framework.text.tables import cell


class SweepDisplay:
    """Show which jobs run, what is done, the best so far and the time left.

    On a terminal, a table is redrawn in place below what the jobs print. Elsewhere there are plain
    lines: one when a job starts, and one when it ends.

    Example:
        >>> with SweepDisplay(total=12, side_by_side=2, objectives=()) as display:
        ...     display.started(job)

    Args:
        total: How many jobs there are.
        side_by_side: How many run at a time.
        objectives: What the jobs are ranked by, if anything.
        console: Where to draw. Default: standard output.
        clock: Returns monotonic seconds; replaced in tests.
    """

    def __init__(
        self,
        total: int,
        side_by_side: int,
        objectives: Sequence[Objective],
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._side_by_side, self._objectives = total, side_by_side, objectives
        self._console = console or Screen(highlight=False)
        self._clock = clock
        self._running: dict[int, tuple[JobEntry, float]] = {}
        self._said: dict[int, str] = {}
        self._ended: list[Standing] = []
        self._spent: list[float] = []
        self._live: Live | None = None

    def __enter__(self) -> SweepDisplay:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self._table,
                refresh_per_second=2,
                redirect_stdout=False,
                redirect_stderr=False,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def started(self, job: JobEntry) -> None:
        """Note that a job runs."""
        self.say(job.number, one_line(short_numbers(" ".join(job.overrides))))
        self._running[job.number] = (job, self._clock())

    def ended(self, standing: Standing) -> None:
        """Note how a job has ended."""
        job, began = self._running.pop(standing.job.number, (standing.job, self._clock()))
        self._said.pop(job.number, None)
        self._ended.append(standing)
        self._spent.append(self._clock() - began)
        code = f" ({standing.code})" if standing.code else ""
        self.say(job.number, f"{standing.status}{code}.  {self.summary()}")

    def say(self, number: int, line: str, *, error: bool = False) -> None:
        """Print a line of a job, with its number."""
        text = f"#{number}  {line}".rstrip()
        if number in self._running and line.strip():
            self._said[number] = line.strip()
        if self._live:
            self._console.print(Text(text), soft_wrap=True)
        else:
            print(text, file=sys.stderr if error else sys.stdout, flush=True)

    def summary(self) -> str:
        """Return one line: what is done, the best so far, and the time left."""
        words = [f"{len(self._ended)} of {self._total} done"]
        pruned = sum(each.status == PRUNED for each in self._ended)
        if pruned:
            words.append(f"{pruned} {PRUNED}")
        bad = sum(not each.finished for each in self._ended)
        if bad:
            words.append(f"{bad} without a result")
        best = best_of(self._ended, self._objectives)
        if len(best) > 1:
            words.append(f"best {', '.join(f'#{each.job.number}' for each in best)}")
        elif best:
            words.append(f"best #{best[0].job.number} with {values(best[0], self._objectives)}")
        left = self._total - len(self._ended)
        if left and self._spent:
            mean = sum(self._spent) / len(self._spent)
            words.append(f"about {clock_time(mean * left / self._side_by_side)} left")
        return ", ".join(words)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        now = self._clock()
        for job, began in list(self._running.values()):
            said = self._said.get(job.number, "")
            name = one_line(short_numbers(" ".join(job.overrides)))
            row = (f"#{job.number}", clock_time(now - began), name, said)
            table.add_row(*map(cell, row))
        whole = Table.grid()
        whole.add_row(table)
        whole.add_row(cell(self.summary()))
        return whole
