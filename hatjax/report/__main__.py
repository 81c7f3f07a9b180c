"""Tables, figures and a page from the workdirs of any number of runs, finished or not.

    python -m hatjax.report results                        all runs below a folder
    python -m hatjax.report results/digits-hat-seed0 results/digits-sgd-seed0 --out=DIR
    python -m hatjax.report results --confusion            with confusion matrices, by class
    python -m hatjax.report results --thin=DIR             no report: copies of some kB a run

The report leaves out what needs missing runs, and lists the commands that train them.
"""

import logging
from pathlib import Path

from absl import flags

from hatjax import cli
from hatjax.errors import InputError

OUT = flags.DEFINE_string("out", "report", "Folder for the report; an old report is replaced.")
CONFUSION = flags.DEFINE_boolean(
    "confusion",
    False,
    "Confusion matrices and per-class accuracies too: the finished runs' models classify the test "
    "images, so their image sets must be in the data root.",
)
THIN = flags.DEFINE_string(
    "thin",
    "",
    "In place of a report, copy the finished runs to this folder without models and most epochs: "
    "some kB each, enough for the report.",
)


def main(argv: list[str]) -> None:
    """Write the report of the runs that the arguments name."""
    for chatty in ("jax", "matplotlib"):  # about missing backends and fonts
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if len(argv) == 1:
        cli.fail("which runs? python -m hatjax.report RUN..., workdirs or folders of them")
    # Imported here to keep --help fast.
    from hatjax.report import read, thin, write

    try:
        if THIN.value:
            copies, notes = thin.copy_all(argv[1:], Path(THIN.value))
            write.print_notes(notes, [])
            print(f"{len(copies)} runs in {THIN.value}")
            return
        where = Path(OUT.value)
        write.check(where)
        records, notes = read.read_all(argv[1:])
        text, notes, lacks = write.write(records, where, notes, CONFUSION.value)
    except InputError as error:
        cli.fail(error)
    print(text)
    write.print_notes(notes, lacks)
    print(f"report in {where / 'index.html'}")


if __name__ == "__main__":
    cli.start(main, cli.parse_flags)
