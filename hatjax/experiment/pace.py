"""How long a run still takes, estimated from its own epochs."""

import time
from collections.abc import Callable, Sequence

import numpy as np


class Pace:
    """The time left of a run of tasks with `batches` an epoch each, and `most` epochs or fewer.

    `earlier` has the numbers of epochs of the tasks learned before this start; 0 is not known. A
    later task is expected to take their mean; the first one, `most`. The first epoch of a start
    does not count, since it compiles the program, and neither does the end of its first task.
    """

    def __init__(
        self,
        batches: Sequence[int],
        most: int,
        earlier: Sequence[int] = (),
        clock: Callable[[], float] = time.monotonic,
    ):
        self.batches, self.most, self.clock = batches, most, clock
        self.lengths = list(earlier)  # of tasks, in epochs
        self.seconds, self.trained = 0.0, 0  # of the epochs that count, and their batches
        self.ends: list[float] = []  # seconds from a task's last epoch to its end
        self.last: float | None = None  # when the last epoch or task of this start ended

    def epoch(self) -> None:
        """An epoch has ended."""
        now = self.clock()
        if self.last is not None:
            self.seconds += now - self.last
            self.trained += self.batches[len(self.lengths)]
        self.last = now

    def task(self, epochs: int) -> None:
        """A task has ended, evaluated and saved, after so many epochs."""
        now = self.clock()
        if self.last is not None:
            self.ends.append(now - self.last)
            self.last = now
        self.lengths.append(epochs)

    def left(self, t: int, epoch: int) -> float | None:
        """Seconds left after `epoch` epochs of task t, from 0; None if it cannot be told yet."""
        if not self.trained:
            return None
        known = [n for n in self.lengths if n]
        expected = float(np.mean(known)) if known else self.most
        later = self.batches[t + 1 :]
        batches = max(expected - epoch, 0) * self.batches[t] + expected * sum(later)
        end = float(np.mean(self.ends[1:])) if self.ends[1:] else 0.0
        return batches * self.seconds / self.trained + (1 + len(later)) * end

    def words(self, t: int, epoch: int) -> str:
        """The time left in words: "up to" in the first task, which may end early; "" as `left`."""
        seconds = self.left(t, epoch)
        if seconds is None:
            return ""
        kind = "about" if any(self.lengths) or self.most == epoch else "up to"
        return f"{kind} {duration(seconds)} left"


def duration(seconds: float) -> str:
    """A time in words: "50 s", "12 min", "1 h 40 min"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


SILENCE = 60.0  # seconds, at most, unless an epoch takes longer


def due(epoch: int, since: float) -> bool:
    """Whether a log shows an epoch, from 1, whose last line was printed `since` seconds ago.

    The first two of a task, every tenth, and one a minute.
    """
    return epoch <= 2 or epoch % 10 == 0 or since >= SILENCE
