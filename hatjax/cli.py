"""Shared by all commands: the flag --config, and errors as one line."""

import ast
import contextlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from hatjax import config as configs
from hatjax.errors import InputError

# configs/ is in the repository, or inside the package if that was installed from a wheel.
CONFIGS = next(
    p
    for p in (Path(__file__).parents[1] / "configs", Path(__file__).parent / "configs")
    if p.exists()
)


def start(main: Callable[[list[str]], None], parse: Callable[[list[str]], list[str]]) -> None:
    """Run a command with absl; Ctrl-C prints one line, a closed pipe nothing."""
    try:
        app.run(main, flags_parser=parse)
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except BrokenPipeError:  # as with `| head`: drop the remaining output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def define_config(default: str) -> flags.FlagHolder:
    """Define the flag --config, with the default configs/`default`."""
    # Not the flag's own default, which absl would load on import, before errors can be reported.
    holder = config_flags.DEFINE_config_file(
        "config",
        None,
        "Configuration file, with its argument: FILE or FILE:ARG; "
        f"default {CONFIGS / default}. Its fields are flags: --config.epochs=5.",
    )
    flag = flags.FLAGS["config"]
    flag.parser = _ConfigParser(flag.parser)
    return holder


class _ConfigParser(flags.ArgumentParser):
    """Reads a configuration file, and adds the fields that other flags need (config.choose)."""

    def __init__(self, reader: flags.ArgumentParser):
        self.reader, self.syntactic_help = reader, reader.syntactic_help

    def parse(self, argument: str) -> Any:
        config = self.reader.parse(argument)
        if isinstance(config, ConfigDict) and {"network", "optimizer"} <= set(config):
            changes = overrides(flags.FLAGS.read_flags_from_files(sys.argv, force_gnu=False))
            with config.unlocked():
                configs.choose(config, changes)
        return config

    def flag_type(self) -> str:
        return self.reader.flag_type()


def overrides(argv: Sequence[str]) -> dict[str, Any]:
    """The fields set by flags: {"optimizer.eps": 1e-5} for --config.optimizer.eps=1e-5."""
    found: dict[str, Any] = {}
    for i, word in enumerate(argv):
        if match := re.fullmatch(r"--?config\.([\w.]+)(?:=(.*))?", word, re.DOTALL):
            path, value = match.groups()
            if value is None:  # the next word, or a switch
                following = argv[i + 1] if i + 1 < len(argv) else "--"
                value = "True" if following.startswith("--") else following
            try:
                found[path] = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                found[path] = value
    return found


def parse(argv: list[str], config: flags.FlagHolder, default: str) -> list[str]:
    """Parse the flags with absl; every error is one line."""
    if any(re.fullmatch("--?(help|helpshort|h)", arg) for arg in argv):
        pass  # absl shows the flags and exits; reading the default configuration takes a second
    elif not any(re.fullmatch("--?config(=.*)?", arg) for arg in argv):
        argv = [argv[0], f"--config={CONFIGS / default}", *argv[1:]]
    try:
        rest = flags.FLAGS(argv)
        if not isinstance(config.value, ConfigDict):
            config.value.keys()  # raises the error of reading the file
    except flags.Error as error:
        fail(f"{str(error).strip().splitlines()[-1]}; see --help and --dry_run")
    except InputError as error:
        fail(error)
    except OSError:
        path = config_flags.get_config_filename(flags.FLAGS["config"])
        known = ", ".join(sorted(p.name for p in CONFIGS.glob("*.py")))
        fail(f"no configuration file {path}; in {CONFIGS} there are {known}")
    except (AttributeError, KeyError) as error:
        # The name in quotes, a line with a hint, and quotes around both that escape the inner ones.
        text = re.sub(r"[\\']|^\"|\"$", "", str(error).replace("\\n", "\n"))
        name, _, hint = text.partition("\n")
        hint = f" {hint}" if hint else ""
        fail(f"no such name in the configuration: {name!r}.{hint} --dry_run shows all fields")
    except Exception as error:  # whatever the user's file raises
        fail(f"the configuration file failed: {type(error).__name__}: {error}")
    if len(rest) > 1:
        fail(f"unknown argument {rest[1]!r}: flags are given as --name=value; see --help")
    return rest


def parse_flags(argv: list[str]) -> list[str]:
    """Parse flags without a configuration; returns the arguments that are not flags."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        fail(f"{str(error).strip().splitlines()[-1]}; see --help")


def parse_run(argv: list[str]) -> list[str]:
    """Parse the flags of a command on one task of a run; returns [program, workdir]."""
    rest = parse_flags(argv)
    if len(rest) != 2:
        fail(f"expected one workdir of a run, got {len(rest) - 1}, and --task=N; see --help")
    return rest


def index(task: int | None, count: int) -> int:
    """The index from 0 of the flag --task, which counts from 1 like the printed accuracies.

    Raises InputError if it is not one of the run's `count` tasks.
    """
    if task is None or not 1 <= task <= count:
        given = "--task=N is missing" if task is None else f"--task={task}"
        raise InputError(f"{given}: the run has the tasks 1..{count}")
    return task - 1


def fail(message: object, status: int = 2) -> NoReturn:
    """Print one line and exit."""
    with contextlib.suppress(BrokenPipeError):
        print("error: " + " ".join(str(message).split()), file=sys.stderr)
    sys.exit(status)
