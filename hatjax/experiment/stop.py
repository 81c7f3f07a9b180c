"""Stopping with Ctrl-C, SIGTERM or SIGHUP: a run in training saves a checkpoint first."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

RESUME = 75  # exit status (EX_TEMPFAIL): not finished, the same command resumes
AGAIN = "the same command (without --overwrite) goes on"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # SIGHUP: the terminal is closed
REPEAT = 1.0  # seconds: a sooner signal is the same request, passed on by a shell or a scheduler


class Stopping:
    """Tells whether the user has asked to stop; signals set it inside of `requested`."""

    def __init__(self) -> None:
        self._asked: float | None = None
        self._training = False

    def __call__(self) -> bool:
        return self._asked is not None

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """While this context is open, the first signal lets the run save instead of ending it."""
        self._training = True
        try:
            yield
        finally:
            self._training = False

    def on_signal(self) -> tuple[str, bool]:
        """Handle a signal: returns the text to print, and whether the process ends."""
        if not self._training:
            return f"error: stopped: {AGAIN} from what is saved", True
        if self._asked is None:
            self._asked = time.monotonic()
            return "stopping after this epoch; once more stops at once, without saving", False
        if time.monotonic() - self._asked < REPEAT:
            return "", False
        return f"error: stopped: {AGAIN} from the last checkpoint", True


def install_handlers() -> dict[int, Any]:
    """Install Python handlers for SIGNALS; returns the previous handlers by signal.

    Python then writes each signal to its wakeup socket. Call this again after a library has
    installed its own handlers, as jax.distributed does. Under nohup, which has SIGHUP ignored, that
    stays so.
    """
    nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    wanted = [s for s in SIGNALS if not (s == signal.SIGHUP and nohup)]
    return {s: signal.signal(s, lambda number, frame: None) for s in wanted}


@contextlib.contextmanager
def requested() -> Iterator[Stopping]:
    """Handle SIGNALS while the context is open; yields whether to stop.

    During training the first signal asks the run to stop, and a later one ends the process at once
    with status RESUME. At other times the first one does. Python delays its own handlers during a
    compiled epoch or an import, so a thread reads the signals from the wakeup socket.
    """
    stopping = Stopping()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    screens = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def listen() -> None:
        while number := ours.recv(1):
            if number[0] not in SIGNALS:
                continue
            if number[0] == signal.SIGHUP:  # to a closed terminal nothing can be written
                nowhere = os.open(os.devnull, os.O_WRONLY)
                for descriptor in screens:
                    os.dup2(nowhere, descriptor)
            text, ends = stopping.on_signal()
            cursor = "\x1b[?25h" if ends and sys.stdout.isatty() else ""  # a live line hides it
            with contextlib.suppress(OSError):  # the reader of a pipe may have ended
                if text:
                    print(f"{cursor}\n{text}", file=sys.stderr, flush=True)
            if ends:
                os._exit(RESUME)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    before = install_handlers()
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


@contextlib.contextmanager
def interrupts() -> Iterator[Stopping]:
    """Handle Ctrl-C and the interrupt of a notebook's kernel in a Python program, as `requested`.

    During training the first one asks the run to stop after the epoch, and a later one raises
    KeyboardInterrupt, as one at other times does. Where the program has a handler of its own, or in
    a thread, which cannot have one, nothing is changed.
    """
    stopping = Stopping()
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield stopping
        return

    def handle(number: int, frame: Any) -> None:
        text, ends = stopping.on_signal()
        if ends:
            raise KeyboardInterrupt
        if text:
            print(text, file=sys.stderr, flush=True)

    signal.signal(signal.SIGINT, handle)
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
