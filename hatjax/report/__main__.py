"""Tables, figures and a page from the workdirs of any number of runs, finished or not.

    python -m hatjax.report results                        all runs below a folder
    python -m hatjax.report results/digits-hat-seed0 results/digits-sgd-seed0 --out=DIR

What needs runs that are not there is left out of the report; it names the commands that make them.
"""

import logging
from pathlib import Path

from absl import flags

from hatjax import cli
from hatjax.errors import InputError

OUT = flags.DEFINE_string("out", "report", "Folder for the report; one that is there is replaced.")


def main(argv: list[str]) -> None:
    """Read, compare and draw the runs that the arguments name."""
    for chatty in ("jax", "matplotlib"):  # of backends that are not there, and of its fonts
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if len(argv) == 1:
        cli.fail("which runs? python -m hatjax.report RUN..., workdirs or folders of them")
    # Here, since importing JAX and matplotlib takes seconds and --help does not.
    from hatjax.report import read, write

    try:
        where = Path(OUT.value)
        write.check(where)
        records, notes = read.read_all(argv[1:])
        text, notes, lacks = write.write(records, where, notes)
    except InputError as error:
        cli.fail(error)
    print(text)
    write.tell(notes, lacks)
    print(f"report in {where / 'index.html'}")


if __name__ == "__main__":
    cli.start(main, cli.parse_flags)
