"""Configuration files: found by path or by name, and run."""

import difflib
import inspect
import os
import sys
import traceback
import types
from pathlib import Path

from ml_collections import ConfigDict

from hatjax.errors import LONG, InputError, oneline

# configs/ of the repository, which a wheel carries inside of the package.
CONFIGS = next(
    (p for p in (Path(__file__).parents[n] / "configs" for n in (1, 2)) if p.is_dir()),
    Path("configs"),
)
MODULE = "hatjax_configuration"  # the name in sys.modules of the file that was run


def packaged(beginning: str = "") -> list[str]:
    """The names of the files that come with hatjax."""
    return sorted(p.name for p in CONFIGS.glob(f"{beginning}*.py"))


def find(name: str) -> Path:
    """The file of a path; if there is none, the packaged one that NAME or configs/NAME says.

    InputError if there is neither.
    """
    path = Path(name)
    if os.path.exists(path):  # also False for an invalid path
        return path
    if path.parent in (Path(), Path("configs")) and path.name in packaged():
        return CONFIGS / path.name
    near = difflib.get_close_matches(path.name[:LONG], packaged(), n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    told = name if len(name) <= LONG else f"{name[:LONG]}..."
    raise InputError(
        f"no configuration file {told}; in {CONFIGS} there are {', '.join(packaged())}.{hint}"
    )


def load(argument: str) -> ConfigDict:
    """The configuration of FILE or FILE:ARG: what get_config() or get_config(ARG) in it returns.

    Raises InputError, which names the file and its line, if that fails for any reason. InputErrors
    of the file itself, as of config.make, stay as they are.
    """
    name, *args = argument.split(":", 1)
    path = find(name)
    try:
        content = path.read_bytes()
    except OSError as error:
        what = "it is a folder" if path.is_dir() else error.strerror
        raise InputError(
            f"configuration file {path} cannot be read ({what}): expected a Python file that "
            "defines get_config"
        ) from error
    module = types.ModuleType(MODULE)
    module.__file__ = str(path)
    sys.modules[MODULE] = module  # dataclasses and Flax modules look for their names there
    try:
        exec(compile(content, str(path), "exec"), module.__dict__)
        get_config = getattr(module, "get_config", None)
        if not callable(get_config):
            raise InputError(f"configuration file {path} defines no function get_config")
        check_argument(path, get_config, args)
        config = get_config(*args)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # whatever the file does
        reason = error.msg if isinstance(error, SyntaxError) else oneline(error)
        raise InputError(
            f"configuration file {path}{line(error, str(path))}: {type(error).__name__}: {reason}"
        ) from error
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"configuration file {path}: get_config returned a {type(config).__name__}: expected a "
            "ConfigDict, as hatjax.config.make and hatjax.plans.study give"
        )
    return config


def check_argument(path: Path, get_config: types.FunctionType, args: list[str]) -> None:
    """Raise InputError if the function does not take what follows the colon."""
    try:
        inspect.signature(get_config).bind(*args)
    except TypeError as error:
        raise InputError(
            f"configuration file {path} takes no argument, but {args[0]!r} follows its name"
            if args
            else f"configuration file {path} needs an argument, as in {path.name}:ARG"
        ) from error


def line(error: BaseException, path: str) -> str:
    """Where in the file an error arose, as ", line 3"; "" if not in it."""
    frames = traceback.extract_tb(error.__traceback__)
    numbers = [frame.lineno for frame in frames if frame.filename == path]
    if isinstance(error, SyntaxError) and error.filename == path:
        numbers.append(error.lineno)
    return f", line {numbers[-1]}" if numbers else ""
