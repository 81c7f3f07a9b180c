"""Images that stay on the host: a split goes to the device a stretch of batches at a time."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from hatjax.data import feed
from hatjax.types import Array, Data

BYTES = 2**24  # of the images of a stretch, about: two stretches lie on the device at a time


class Stretch(NamedTuple):
    """Some batches of a pass over a split."""

    data: Data  # with the images of these batches
    first: np.int32  # the number of the first of them
    until: np.int32  # and of the one after the last


class Stream(NamedTuple):
    """A split of a task, as Data, but its images are on the host."""

    labels: Data  # on the device, without an image
    counts: Sequence[int]  # "S", how many examples each of its S versions has
    images: Sequence[Callable[[np.ndarray], np.ndarray]]  # "S", (stored places) -> images
    put: Callable[[np.ndarray], Array]  # an array on the host -> on the devices


def stretches(stream: Stream, size: int, order: np.ndarray | None = None) -> Iterator[Stretch]:
    """All batches of `size` examples in `order` "S N" (None: as stored), in stretches.

    While one is computed on, a thread collects the images of the next. All have the same shape,
    padded with zeros, so that one compiled program serves all.
    """
    labels = stream.labels
    size, most = feed.at_most(size, labels), max(stream.counts)
    total = -(-most // size)
    image = int(np.prod(labels.x.shape[2:])) * labels.x.dtype.itemsize
    count = min(total, max(1, BYTES // (size * image * len(stream.counts))))

    def collect(first: int) -> np.ndarray:
        shape = (len(stream.counts), count * size, *labels.x.shape[2:])
        x = np.zeros(shape, labels.x.dtype)
        for v, (n, images) in enumerate(zip(stream.counts, stream.images, strict=True)):
            places = np.arange(first * size, min((first + count) * size, n))
            x[v, : len(places)] = images(places if order is None else order[v, places])
        return x

    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(collect, 0)
        for first in range(0, total, count):
            x = waiting.result()
            if first + count < total:
                waiting = reader.submit(collect, first + count)
            data = labels._replace(x=stream.put(x), first=np.int32(first * size))
            yield Stretch(data, np.int32(first), np.int32(min(first + count, total)))
