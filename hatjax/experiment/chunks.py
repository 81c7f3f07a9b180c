"""Which runs one program trains, and what to do when the memory does not hold them."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from hatjax.errors import InputError
from hatjax.experiment import checkpoints
from hatjax.experiment.checkpoints import Position
from hatjax.training import replicas
from hatjax.types import Approach, Task


class Chunk(NamedTuple):
    """Runs of one program."""

    places: list[Path]
    at: Position | None  # of which all have a whole checkpoint, but those that diverged
    notes: list[str]  # what a person should know


def chunks(
    places: list[Path], config: ConfigDict, approach: Approach, sequence: list[Task], at_once: int
) -> list[Chunk]:
    """The runs in these workdirs, by program: `at_once` together, or as many as fit.

    Runs that began together go on together, which is what makes them bit-identical.
    """
    most = at_once or len(places)
    if len(places) > 1 and not at_once:
        (most,) = replicas.agreed([min(most, replicas.fit(config, approach, sequence))])
    if len(places) > most and replicas.writes():
        print(f"{len(places)} runs, {most} at once")
    return _agreed(places, replicas.by_first(lambda: begun(places, most, at_once or len(places))))


def begun(places: Sequence[Path], new: int, old: int) -> list[Chunk]:
    """The runs in these workdirs by how far they are; reads all checkpoints.

    In a chunk are at most so many `new` ones, or `old` ones. Where those of a program have no
    position in common, for a person has removed or changed one, they go on in several, so that
    nothing is lost.
    """
    stands = {where: checkpoints.stand(where) for where in places}
    lost = {where for where in places if (where / "diverged").is_file()}
    groups: dict[tuple[str, ...], list[Path]] = {}
    for where, own in stands.items():
        others = (s.group for s in stands.values() if where.name in s.group)
        groups.setdefault(tuple(own.group or next(others, ())), []).append(where)
    fresh, found = groups.pop((), []), []
    for group in groups.values():
        there = [where for where in group if stands[where].whole]
        going = [where for where in there if where not in lost]
        aside = [where for where in group if where in lost] if going else []
        going = going or there  # all are lost: they try again
        absent = [where for where in group if where not in going and where not in aside]
        if absent and _first_save(going, absent, stands):
            found.append(Chunk(group, None, []))
        else:
            fresh += absent
            found += _parts(going, aside, stands)
    # In the order that they began in, since products depend on it.
    found = [chunk._replace(places=sorted(chunk.places, key=places.index)) for chunk in found]
    found = [piece for chunk in found for piece in _pieces(chunk, old)]
    found += _pieces(Chunk([where for where in places if where in fresh], None, []), new)
    return [
        chunk._replace(notes=[*_damaged(chunk, stands), *chunk.notes])
        for chunk in sorted(found, key=lambda chunk: places.index(chunk.places[0]))
    ]


def _pieces(chunk: Chunk, size: int) -> list[Chunk]:
    """A chunk in pieces of at most so many runs; what is to be told stands in the first."""
    return [
        chunk._replace(places=chunk.places[i : i + size], notes=[] if i else chunk.notes)
        for i in range(0, len(chunk.places), size)
    ]


def _first_save(
    going: list[Path], absent: list[Path], stands: dict[Path, checkpoints.Standing]
) -> bool:
    """Whether a kill while a program first saved explains why some have no checkpoint.

    Then all begin anew together, and the results are those of a run without a pause.
    """
    first = all(
        len(stands[where].whole) == 1
        and stands[where].whole[0] <= Position(1, 0)
        and not stands[where].damaged
        for where in going
    )
    return first and all((where / "metrics.jsonl").is_file() for where in absent)


def _parts(
    going: list[Path], aside: list[Path], stands: dict[Path, checkpoints.Standing]
) -> list[Chunk]:
    """The chunks of the runs of a program that go on; with them those that diverged stand `aside`.

    It is one if they have a position in common.
    """
    if common := set.intersection(*(set(stands[where].whole) for where in going)):
        return [Chunk([*going, *aside], max(common), [])]
    by_position: dict[Position, list[Path]] = {}
    for where in going:
        by_position.setdefault(stands[where].whole[0], []).append(where)
    note = (
        f"{len(going)} runs of one program stand at {len(by_position)} different places and go on "
        "apart: the last digits of their results may differ from those of runs without a pause"
    )
    parts = [Chunk(members, at, [note]) for at, members in by_position.items()]
    return [parts[0]._replace(places=[*parts[0].places, *aside]), *parts[1:]]


def _damaged(chunk: Chunk, stands: dict[Path, checkpoints.Standing]) -> list[str]:
    """What to tell of the checkpoints of a chunk that cannot be used."""
    folders = [
        checkpoints.place(where, at)
        for where in chunk.places
        for at in stands[where].damaged
        if not chunk.at or at > chunk.at
    ]
    notes = [f"checkpoint {folder} is damaged: going back" for folder in folders]
    if folders and not chunk.at:
        notes.append("no whole checkpoint is left: beginning anew")
    return notes


def _agreed(places: list[Path], found: list[Chunk] | None) -> list[Chunk]:
    """What process 0 has found, in all processes; the others have nothing to tell."""
    of = {where: (i, c) for i, c in enumerate(found or ()) for where in c.places}
    numbers = [
        n
        for where in places
        for n in ((of[where][0], *(of[where][1].at or (-1, -1))) if found else (0, 0, 0))
    ]
    said = replicas.agreed(numbers)
    chunks: dict[int, Chunk] = {}
    for where, i, tasks, epoch in zip(places, said[::3], said[1::3], said[2::3], strict=True):
        at = Position(tasks, epoch) if tasks >= 0 else None
        notes = found[i].notes if found else []
        chunks.setdefault(i, Chunk([], at, notes)).places.append(where)
    return list(chunks.values())


@contextlib.contextmanager
def advice(
    config: ConfigDict, approach: Approach, sequence: list[Task], count: int
) -> Iterator[None]:
    """Says what would fit where the memory does not hold `count` runs: raises InputError."""
    free = replicas.free_memory()
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        said = ("RESOURCE_EXHAUSTED", "Out of memory")  # now, and by older releases
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in said):
            raise
        raise InputError(
            f"out of memory: {replicas.fitting(config, approach, sequence, count, free)}"
        ) from error
