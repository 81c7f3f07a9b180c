"""Tasks that come after others: of a run that goes on from another one."""

from collections.abc import Collection, Sequence

from hatjax.data.tasks.fingerprint import of_tests
from hatjax.errors import InputError
from hatjax.types import Task


def check(
    earlier: Sequence[Task], new: Sequence[Task], forgotten: Collection[int] = ()
) -> None:
    """Raise InputError if the new tasks cannot come after the earlier ones.

    They have images of another shape, or one is there already, unless it was `forgotten` (its
    number, from 0).
    """
    image, shape = (tasks[0].train.x.shape[1:] for tasks in (earlier, new))
    if image != shape:
        raise InputError(
            f"images of task {new[0].name!r} are {shape}, those of the {len(earlier)} tasks before "
            f"it {image}: the network reads images of one shape; for image sets there is "
            f'--config.data.image="{tuple(image)}"'
        )
    there = [task for t, task in enumerate(earlier) if t not in forgotten]
    known = {digest: name for name, digest in of_tests(there).items()}
    for name, digest in of_tests(new).items():
        if digest in known:
            raise InputError(
                f"the task {name!r} is there already, as {known[digest]!r}: it has the same test "
                "images and labels; give other tasks"
            )


def after(earlier: Sequence[Task], new: Sequence[Task]) -> list[Task]:
    """The earlier tasks and then the new ones, whose rows follow theirs.

    A new task gets another name where it has that of an earlier one.
    """
    names, found = {task.name for task in earlier}, list(earlier)
    for task in new:
        name = free_name(task.name, names)
        names.add(name)
        found.append(task._replace(name=name, row=len(earlier) + task.row))
    return found


def free_name(name: str, names: Collection[str]) -> str:
    """The name, or the first of "NAME (2)", "NAME (3)", ... that is not among `names`.

    "task 0" of arrays becomes the first free "task 1", "task 2", ...
    """
    stem, _, number = name.rpartition(" ")
    several = (f"{name} ({n})" for n in range(2, len(names) + 3))
    if stem == "task" and number.isdecimal():
        several = (f"{stem} {n}" for n in range(int(number) + 1, int(number) + len(names) + 2))
    return name if name not in names else next(n for n in several if n not in names)
