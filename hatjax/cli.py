"""Shared by all commands: the flag --config, and errors as one line."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from hatjax import config as configs
from hatjax.config import file
from hatjax.config.file import CONFIGS
from hatjax.errors import InputError, shown, unknown

# The words of the command line that is being parsed, those of flag files among them: which fields
# of the configuration they set is read from here.
WORDS: list[str] = []


def start(main: Callable[[list[str]], None], parse: Callable[[list[str]], list[str]]) -> None:
    """Run a command with absl; Ctrl-C prints one line, a closed pipe nothing."""
    try:
        app.run(main, flags_parser=parse)
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except BrokenPipeError:  # as with `| head`: drop the remaining output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def define_config(default: str = "") -> flags.FlagHolder:
    """Define the flag --config, with the default configs/`default`, or none."""
    # Not the flag's own default, which absl would load on import, before errors can be reported.
    holder = config_flags.DEFINE_config_file(
        "config",
        None,
        "Configuration file, with its argument: FILE or FILE:ARG, a path or the name of a file in "
        + (f"{CONFIGS}; default {default}" if default else str(CONFIGS))
        + ". Its fields are flags: --config.epochs=5.",
        sys_argv=WORDS,
    )
    flags.FLAGS["config"].parser = _ConfigParser()
    config_flags.register_flag_parser_for_type(object, _ValueParser())
    config_flags.register_flag_parser_for_type(tuple, _TupleParser())
    return holder


class _ConfigParser(flags.ArgumentParser):
    """Reads a configuration file, and adds the fields that other flags need (config.choose)."""

    def parse(self, argument: str) -> ConfigDict:
        config, changes = file.load(argument), overrides(WORDS)
        with config.unlocked():
            configs.free_types(config)
            check_groups(config, changes)
            if {"network", "optimizer"} <= set(config):
                configs.choose(config, changes)
        return config.lock()

    def flag_type(self) -> str:
        return "configuration file"


class _ValueParser(flags.ArgumentParser):
    """Reads a field that may be of any type."""

    def parse(self, argument: Any) -> Any:
        return configs.literal(argument) if isinstance(argument, str) else argument

    def flag_type(self) -> str:
        return "value"


class _TupleParser(_ValueParser):
    """Reads a tuple, of numbers or names: 100,200 or mnist,digits or "('mnist', 'digits')"."""

    def parse(self, argument: Any) -> tuple:
        value = super().parse(argument)
        return tuple(value) if isinstance(value, tuple | list) else (value,)

    def flag_type(self) -> str:
        return "tuple"


def overrides(words: Sequence[str]) -> dict[str, Any]:
    """The fields set by flags: {"optimizer.eps": 1e-5} for --config.optimizer.eps=1e-5."""
    found: dict[str, Any] = {}
    for i, word in enumerate(words):
        if match := re.fullmatch(r"--?config\.([\w.]+)(?:=(.*))?", word, re.DOTALL):
            path, value = match.groups()
            if value is None:  # the next word, or a switch
                following = words[i + 1] if i + 1 < len(words) else "--"
                value = "True" if following.startswith("--") else following
            found[path] = configs.literal(value)
    return found


def check_groups(config: ConfigDict, changes: dict[str, Any]) -> None:
    """Raise InputError for a flag that gives a group of fields a single value, as --config.data=x.

    Likewise for one that names another approach, which has fields of its own.
    """
    for path, value in changes.items():
        group = within(config, path)
        if isinstance(value, dict) or not isinstance(group, ConfigDict):
            continue
        given, mine = f"config.{path} = {shown(value)}", list(configs.fields(group))
        if path == "approach" and isinstance(value, str):
            if value not in configs.APPROACHES:
                raise unknown("approach", value, configs.APPROACHES)
            raise InputError(
                f"{given}: an approach has fields of its own; {configs.chosen_by(value)}"
            )
        if "name" in mine:
            raise InputError(f"{given}: choose it by --config.{path}.name={value}")
        some = " or ".join(f"--config.{path}.{field}=..." for field in mine[:3])
        raise InputError(f"{given}: it is a group of fields; set them one by one: {some}")
    name = changes.get("approach.name")
    if within(config, "approach.name") not in (None, name) and name in configs.APPROACHES:
        raise configs.other_approach(configs.fields(config), str(name))


def within(config: ConfigDict, path: str) -> Any:
    """What a configuration has at a dotted path; None if there is no such field."""
    for part in path.split("."):
        config = config.get(part) if isinstance(config, ConfigDict) else None
    return config


def completed(argv: Sequence[str], default: str, ask: str) -> list[str]:
    """The command line with the flags of its flag files, and a single --config, before its fields.

    The last one counts. Without any it is the packaged file `default`; if that is "", InputError
    with the line `ask`.
    """
    program, *words = argv
    given, rest = f"{CONFIGS / default}" if default else None, []
    left = iter(flags.FLAGS.read_flags_from_files(words, force_gnu=False))
    for word in left:
        match = re.fullmatch("--?config(?:=(.*))?", word, re.DOTALL)
        if match is None:
            rest.append(word)
        elif not (given := match[1] if match[1] is not None else next(left, "")):
            raise InputError("--config is empty: expected FILE or FILE:ARG")
    if given is None:
        raise InputError(ask)
    return [program, f"--config={given}", *rest]


def parse(argv: list[str], default: str = "", ask: str = "") -> list[str]:
    """Parse the flags with absl; every error is one line.

    `default` and `ask` are as in `completed`.
    """
    try:
        if not any(re.fullmatch("--?(help|helpshort|helpfull|h)", arg) for arg in argv):
            # Else absl shows the flags and exits; reading the configuration takes a second.
            argv = WORDS[:] = completed(argv, default, ask)
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        fail(f"{str(error).strip().splitlines()[-1]}; see --help and --dry_run")
    except InputError as error:
        fail(error)
    except (AttributeError, KeyError) as error:
        # The name in quotes, a line with a hint, and quotes around both that escape the inner ones.
        text = re.sub(r"[\\']|^\"|\"$", "", str(error).replace("\\n", "\n"))
        name, _, hint = text.partition("\n")
        hint = f" {hint}" if hint else ""
        fail(f"no such name in the configuration: {name!r}.{hint} --dry_run shows all fields")
    except (IndexError, TypeError, ValueError) as error:  # ml_collections, of a path that is none
        fail(f"flags of the configuration: {error}; --dry_run shows all fields")
    if len(rest) > 1:
        fail(f"unknown argument {rest[1]!r}: flags are given as --name=value; see --help")
    return rest


def parse_flags(argv: list[str]) -> list[str]:
    """Parse flags without a configuration; returns the arguments that are not flags."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        fail(f"{str(error).strip().splitlines()[-1]}; see --help")


def define_run() -> None:
    """Define the flags of a command on one task of a run, for `parse_run`.

    --help shows the flags of the command's own file, and those that it declares as its own.
    """
    flags.DEFINE_integer("task", None, "Which task, counted from 1.")
    flags.DEFINE_string(
        "config", None, "The run's configuration file, if that registers a network of your own."
    )


def parse_run(argv: list[str]) -> list[str]:
    """Parse the flags of a command on one task of a run; returns [program, workdir].

    The file that --config gives is run, so that the network that it registers is known.
    """
    rest = parse_flags(argv)
    if len(rest) != 2:
        fail(f"expected one workdir of a run, got {len(rest) - 1}, and --task=N; see --help")
    if flags.FLAGS.config:
        try:
            file.load(flags.FLAGS.config)
        except InputError as error:
            fail(error)
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
