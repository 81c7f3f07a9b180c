"""All commands of hatjax under one name: `hatjax COMMAND`, or `python -m hatjax COMMAND`."""

import runpy
import sys

import hatjax
from hatjax.errors import unknown

COMMANDS = {  # name -> the module that it runs, as `python -m` does; what it is for
    "train": ("hatjax.main", "train a network on a sequence of tasks"),
    "study": ("hatjax.study", "run many approaches on many experiments, and compare them"),
    "report": ("hatjax.report", "tables, figures and a page from runs"),
    "export": ("hatjax.export", "the small network of one task of a run"),
    "forget": ("hatjax.forget", "a run without one of its tasks"),
    "benchmark": ("hatjax.benchmark", "time a training step"),
}
HELP = f"""{hatjax.__doc__.splitlines()[0]}

    hatjax COMMAND [--flags]

""" + "".join(f"    {name:11} {what}\n" for name, (_, what) in COMMANDS.items()) + """
hatjax COMMAND --help has the flags of a command, hatjax --version the version.
"""  # fmt: skip


def main() -> None:
    """Run the command that the first argument names, with the others."""
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    if first in ("--help", "-h", "-help", "help"):
        print(HELP, end="")
    elif first in ("--version", "-version", "version"):
        print(hatjax.__version__)
    elif first in COMMANDS:
        del sys.argv[1]
        runpy.run_module(COMMANDS[first][0], run_name="__main__", alter_sys=True)
    else:
        text = f"error: {unknown('command', first, COMMANDS)}" if first else HELP.rstrip()
        print(text, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
