"""Where the published code (joansj/hat) parts from the equations, one name for each choice.

config.fidelity = "paper" takes all choices as the paper has them, "code" none. The table in
docs/departures.md has a row for each, with what the published code does instead.
"""

from typing import NamedTuple

from ml_collections import ConfigDict


class Departures(NamedTuple):
    """Each is True for the way of the paper, False for that of the published code."""

    # Annealing by (b - 1) / (B - 1) (eq. 3): the share of the examples seen never gets to s_max.
    annealing_to_s_max: bool
    # R = 0 when no unit is free, where its terms are 0 / 0.
    finite_sparsity: bool
    # The last, smaller batch of an epoch takes a step scaled by its size: every example counts the
    # same.
    scaled_last_batch: bool
    # config.tasks.valid is held out everywhere: early stopping must not look at what is trained on.
    usual_holdout: bool
    # Each class gives its share of the hold-out, and keeps an image for training: by chance alone
    # a rare one is lost.
    stratified_holdout: bool
    # Permutations of a run's own seed, not of the seed that ran first on the disk.
    own_permutations: bool
    # FaceScrub as it is stored: bytes that have channels last were read as if they came first.
    facescrub_as_stored: bool
    # Older columns of a progressive network as their tasks use them: with what they read of each
    # other, and without dropout.
    whole_old_columns: bool
    # A progressive network's head reads the older columns, too; else a third of it is never used.
    heads_read_old_columns: bool
    # IMM-mode goes on from the merged weights, which were assigned to a loop variable and lost.
    kept_mode_merge: bool
    # IMM-mean merges the trunk alone: a head is trained by one task, and a mean would dilute it.
    unmerged_heads: bool
    # Fisher information of single examples' cross-entropy, by its definition: gradients of
    # different examples cancel in a batch's mean, and dropout and a pull are not part of it.
    fisher_per_example: bool
    # LFL's distance as the mean over the examples, so that lambda does not depend on the batch.
    mean_distance: bool
    # LFL compares features without dropout; the published ones have it in the layers below, and
    # the network none between its last layer and the heads.
    distance_without_dropout: bool
    # SGD-R, joint training and PathNet's free modules restart from parameters that are drawn anew:
    # the tasks of a run are then independent, where the published ones share a copy of the first.
    fresh_restarts: bool
    # Random guesses each task's labels at that task's frequencies, not at the last one's.
    own_frequencies: bool


PAPER = Departures(*[True] * len(Departures._fields))
CODE = Departures(*[False] * len(Departures._fields))


def departures(config: ConfigDict) -> Departures:
    """The choices of config.fidelity."""
    return CODE if config.fidelity == "code" else PAPER
