"""A command that is told to stop: SIGTERM and Ctrl-C let a run save first."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

RESUME = 75  # the exit status that says: not finished, the same command goes on (EX_TEMPFAIL)
AGAIN = "the same command (without --overwrite) goes on"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
TWICE = 1.0  # seconds: what comes sooner is the same wish, passed on by a shell or a scheduler


class Stopping:
    """Says whether to stop. Without `requested`, nobody asks."""

    def __init__(self) -> None:
        self._asked: float | None = None
        self._training = False

    def __call__(self) -> bool:
        return self._asked is not None

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """As long as it lasts there is something to save: a first signal does not end it."""
        self._training = True
        try:
            yield
        finally:
            self._training = False

    def hear(self) -> tuple[str, bool]:
        """Of a signal: what to tell, and whether the process ends."""
        if not self._training:
            return f"error: stopped: {AGAIN} from what is saved", True
        if self._asked is None:
            self._asked = time.monotonic()
            return "stopping after this epoch; once more stops at once, without saving", False
        if time.monotonic() - self._asked < TWICE:
            return "", False
        return f"error: stopped: {AGAIN} from the last checkpoint", True


def take() -> dict[int, Any]:
    """Have Python take the signals, and write them to its wakeup socket; who did before, by signal.

    Once more where a library has taken them itself since, as jax.distributed does.
    """
    return {s: signal.signal(s, lambda number, frame: None) for s in SIGNALS}


@contextlib.contextmanager
def requested() -> Iterator[Stopping]:
    """As long as the context lasts, SIGTERM and Ctrl-C are heard.

    While a run trains, the first is told and remembered, and a later one ends the process at once,
    as any does at other times, with status RESUME. A compiled epoch does not return to Python, nor
    does an import, whose handlers therefore come too late; a thread is told by the wakeup socket.
    """
    stopping = Stopping()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def listen() -> None:
        while number := ours.recv(1):
            if number[0] not in SIGNALS:
                continue
            text, ends = stopping.hear()
            shown = "\x1b[?25h" if ends and sys.stdout.isatty() else ""  # a live line hides it
            with contextlib.suppress(OSError):  # who reads a pipe may have ended by the same signal
                if text:
                    print(f"{shown}\n{text}", file=sys.stderr, flush=True)
            if ends:
                os._exit(RESUME)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    before = take()
    wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield stopping
    finally:
        signal.set_wakeup_fd(wakeup)
        for s, handler in before.items():
            signal.signal(s, handler)
        theirs.close()
        thread.join()
        ours.close()
