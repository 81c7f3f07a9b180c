"""What the tests with bad input share: how many examples, which values, what must not happen."""

import hashlib
import os
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from hatjax.errors import InputError

SLOW = 20 if os.environ.get("HATJAX_SLOW") else 1


def examples(count: int, seconds: float = 10):
    """Settings of a test: so many examples (SLOW times as many), the same every time."""
    return settings(
        max_examples=SLOW * count,
        deadline=1000 * seconds,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


NUMBERS = (
    0, 1, -1, 2, 1.0, 0.5, -0.0, 1e-320, 1e-50, 1e308, -1e308, 2**31 - 1, 2**31, 2**63, -(2**63),
    2**70, 10**12, 10**30, float("nan"), float("inf"), -float("inf"),
)  # fmt: skip
TEXTS = (
    "", "a", "paper", "mnist", "digits", "../../x", "/", "a\0b", "~no-such-user/x", "\n", "é" * 200,
)  # fmt: skip
WORDS = (b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x01")
plain = (
    st.sampled_from((*NUMBERS, *TEXTS, None, True, False))
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
)
# Anything at all, nested.
values = st.recursive(
    plain,
    lambda v: st.lists(v, max_size=6)
    | st.lists(v, max_size=6).map(tuple)
    | st.dictionaries(st.text(max_size=8), v, max_size=4),
    max_leaves=12,
)


def told(action, *args, says: str = "") -> bool:
    """Whether `action` works; else it raises InputError, with one line that names something.

    Anything else that it raises fails the test.
    """
    try:
        action(*args)
    except InputError as error:
        message = str(error)
        assert 20 < len(message) < 2000 and "\n" not in message, message
        assert says in message, message
        return False
    return True


def snapshot(folder: Path) -> dict[str, str]:
    """Every file and folder below a folder, with the checksum of its content."""
    return {
        str(p.relative_to(folder)): hashlib.sha1(p.read_bytes()).hexdigest() if p.is_file() else ""
        for p in sorted(folder.rglob("*"))
    }


def one_line(err: str) -> str:
    """What a command that refuses its input says on standard error: one line."""
    assert err.startswith("error: ") and len(err.strip().splitlines()) == 1, err
    return err


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """The bytes of a file with some changed, inserted, left out, or cut off."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(found) - 1, 0)))
        kind = draw(st.sampled_from(("flip", "set", "insert", "remove", "cut")))
        if kind == "flip" and found:
            found[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set":
            found[at : at + 4] = draw(st.sampled_from(WORDS))
        elif kind == "insert":
            found[at:at] = draw(st.binary(min_size=1, max_size=16))
        elif kind == "remove":
            del found[at : at + draw(st.integers(1, 64))]
        else:
            del found[at:]
    return bytes(found)
