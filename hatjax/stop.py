"""A run that is told to stop: SIGTERM and Ctrl-C let it save first."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

RESUME = 75  # the exit status that says: not finished, the same command goes on (EX_TEMPFAIL)
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def never() -> bool:
    return False


@contextlib.contextmanager
def requested() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether to stop, as long as the context lasts.

    The first SIGTERM or Ctrl-C is told and remembered; the second ends the process at once, with
    status RESUME. A compiled epoch does not return to Python, whose handlers therefore come too
    late; a thread is told by the wakeup socket.
    """
    asked = threading.Event()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def listen() -> None:
        while number := ours.recv(1):
            if number[0] not in SIGNALS:
                continue
            if asked.is_set():
                shown = "\x1b[?25h" if sys.stdout.isatty() else ""  # a live line hides the cursor
                print(f"{shown}\nstopped; the same command goes on", file=sys.stderr, flush=True)
                os._exit(RESUME)
            asked.set()
            print(
                "\nstopping after this epoch; once more stops at once, without saving",
                file=sys.stderr,
                flush=True,
            )

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    before = {s: signal.signal(s, lambda number, frame: None) for s in SIGNALS}
    wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield asked.is_set
    finally:
        signal.set_wakeup_fd(wakeup)
        for s, handler in before.items():
            signal.signal(s, handler)
        theirs.close()
        thread.join()
        ours.close()
