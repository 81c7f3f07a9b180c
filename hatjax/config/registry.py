"""What can be chosen by name: approaches and networks, each all that one file says of itself.

A file hatjax/approaches/NAME.py that ends with

    APPROACH = ApproachSpec(make, label="...", settings=Settings(), ...)

is the approach NAME, and a file hatjax/networks/architectures/NAME.py that ends with
NETWORK = NetworkSpec(make, ...) the network NAME: nothing else has to be told of it. Their names
are those of the files, so they are known without an import; a file is imported when somebody asks
for its value.

That is an import by name, and the only one that goes against the order of the packages
(tests/test_imports.py): the defaults of an approach stand beside its code, which needs JAX, and the
configuration, which comes before both, has to be quick where nobody asks for them, as for --help.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ml_collections import ConfigDict

from hatjax.config.ranges import Range

if TYPE_CHECKING:  # importing it takes as long as importing JAX
    from hatjax.types import Approach, Network

T = TypeVar("T")


class NoSettings(NamedTuple):
    """The settings of an approach that has none."""


class ApproachSpec(NamedTuple):
    """An approach: what makes it, its fields in a configuration, what it needs of the network."""

    make: Callable[[ConfigDict, Network], Approach]
    label: str  # its name in figures and tables
    # A NamedTuple of floats: fields of config.approach, their defaults. The compiled program takes
    # them as arguments, as step.hyper.approach: another value compiles nothing anew, and a grid may
    # vary them.
    settings: NamedTuple = NoSettings()
    # Other fields of config.approach and their defaults: texts, and numbers that give the compiled
    # program its shape. They are read from the configuration.
    fixed: Mapping[str, Any] = {}
    # What the fields may be: {"s_max": ...}, and {"network.expand": ...} of config.network.
    ranges: Mapping[str, Range] = {}
    # The least and the greatest usual value of some settings. Where a task learns nothing, those
    # that lie outside are named as the likely cause (experiment.causes).
    usual: Mapping[str, tuple[float, float]] = {}
    gated: bool = False  # whether the network's units have gates
    # Whether the published code gives it the smaller network of the MNIST experiments' baselines.
    smaller: bool = True
    epochs: int = 1  # so many times the experiment's epochs are its default
    network: Mapping[str, Any] = {}  # fields that it adds to config.network, and their defaults
    # (config, trunk, image, classes) -> a network that it builds itself, from the stages of a
    # hatjax.networks.trunk.Trunk. None: the network as it is.
    structure: Callable[[ConfigDict, Any, tuple[int, ...], tuple[int, ...]], Network] | None = None
    # The settings that a run which goes on with more tasks (config.extends) must have as before,
    # since what is learned is read with them. None: all of them, and all of `fixed`.
    kept: tuple[str, ...] | None = None
    # Fields that came later, and what a run without them was made with.
    later: Mapping[str, Any] = {}
    # Raises InputError for fields that do not go together, each of them in its range.
    check: Callable[[ConfigDict], None] | None = None

    def fields(self) -> dict[str, Any]:
        """The fields of config.approach besides its name, and their defaults."""
        return {"gated": self.gated, **self.settings._asdict(), **self.fixed}


class NetworkSpec(NamedTuple):
    """A network: what makes its module, and its fields in a configuration."""

    # (config.network, image) -> a Flax module as hatjax.networks describes it, for images "h w c"
    make: Callable[[ConfigDict, tuple[int, ...]], Any]
    fields: Mapping[str, Any] = {}  # of config.network besides its name, and their defaults
    ranges: Mapping[str, Range] = {}  # what the fields may be
    optional: tuple[str, ...] = ()  # fields that a configuration may lack
    later: Mapping[str, Any] = {}  # as in ApproachSpec


class Registry(MutableMapping[str, T]):
    """Values by name: those of a folder's files, and any that are set, as in a dict."""

    def __init__(self, package: str, attribute: str, first: tuple[str, ...]):
        """The values that `attribute` has in the files of a package.

        `first` are the names of those that come with hatjax, in the order in which all are listed;
        files that somebody has added follow by letter.
        """
        folder = Path(__file__).parents[2].joinpath(*package.split("."))
        found = {module.name for module in pkgutil.iter_modules([str(folder)])}
        self.package, self.attribute = package, attribute
        self.ours, self.files = first, (*first, *sorted(found - set(first)))
        self._values: dict[str, T | None] = dict.fromkeys(self.files)  # None: not yet imported

    def __getitem__(self, name: str) -> T:
        value = self._values[name]
        if value is None:
            module = importlib.import_module(f"{self.package}.{name}")
            value = self._values[name] = getattr(module, self.attribute)
        return value

    def __setitem__(self, name: str, value: T) -> None:
        self._values[name] = value

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __contains__(self, name: object) -> bool:  # without an import
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


# In the order of tables, which also gives each its colour in figures.
APPROACHES: Registry[ApproachSpec] = Registry(
    "hatjax.approaches",
    "APPROACH",
    first=(
        "hat", "random", "sgd", "sgd_restart", "sgd_frozen", "joint", "lwf", "lfl", "ewc",
        "imm_mean", "imm_mode", "progressive", "pathnet", "adahat", "wsn", "packnet", "supsup",
        "si", "mas", "er", "derpp", "agem",
    ),
)  # fmt: skip
NETWORKS: Registry[NetworkSpec] = Registry(
    "hatjax.networks.architectures",
    "NETWORK",
    first=("mlp", "alexnet", "convnet", "resnet18", "resnet34", "vit"),
)
