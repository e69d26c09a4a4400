"""Pictures of two kinds: `pairs:PATH`, each with a condition, and `domains:PATH`, two sets that are not paired.

Both lie in PATH/train, or in PATH itself. What is held out, for samples and scores, lies in PATH/test or PATH/val; else
it is a tenth of the examples, chosen by a fixed pseudo-random order, and no run trains on it.

A folder of pairs holds two folders of files with equal names, of which the first by name has the conditions; or files
alone, each a condition and its image side by side. A folder of domains holds two folders (or trainA and trainB stand
beside one another), of which the second by name has the images, and the first the `other` domain's.

Each of these folders may be one that `experiments.prepare` has written.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping

import numpy as np

from jaxgan.data import folder, pixels, prepared
from jaxgan.data.dataset import DataError
from jaxgan.data.source import Source
from jaxgan.gan import Batch

CONDITION, OTHER = "condition", "other"
HELD_OUT = ("test", "val")
KINDS = ("pairs", "domains")
HALVES = ("condition", "image")  # of pictures side by side: the folders that they are prepared in


def pairs(
    path: str, shape: pixels.Shape | None, others: Mapping[str, pixels.Shape], how: pixels.Fit, held_out: bool
) -> Source:
    """The pictures of `pairs:PATH`, each with its condition.

    Args:
      path: the folder.
      shape: that images are brought to, as for `pixels.fit`; None leaves them as they are.
      others: the same for the "condition", by that name.
      how: as for `pixels.fit`.
      held_out: whether the examples that no run trains on are wanted.

    Raises:
      DataError: the folder holds no pairs. Reading raises one for a file that cannot be read.
    """
    name, shapes = f"pairs:{path}", (others.get(CONDITION), shape)
    place, apart = _part(name, path, held_out)
    both = _folders(name, place)
    if len(both) == 2:
        condition, images = (_images(name, os.path.join(place, f), s, how) for f, s in zip(both, shapes, strict=True))
        _check_names(name, place, both)
        read = lambda which: Batch(images.read(which).images, None, {CONDITION: condition.read(which).images})  # noqa: E731
        digest = lambda: _joined(condition.digest, images.digest)  # noqa: E731
        found = Source(name, images.size, images.shape, read, digest, others={CONDITION: condition.shape})
    else:
        found = _side_by_side(name, place, shapes, how)
    return found if apart else _held_out(found, held_out)


def domains(
    path: str, shape: pixels.Shape | None, others: Mapping[str, pixels.Shape], how: pixels.Fit, held_out: bool
) -> Source:
    """The pictures of `domains:PATH`: those of the second domain, and as "other" those of the first; as `pairs`."""
    name = f"domains:{path}"
    at = _place(name, path)
    beside = _beside(at)
    if beside:
        apart = not held_out or len(beside) > 1
        places = [os.path.join(at, f) for f in beside[1 if held_out and apart else 0]]
    else:
        place, apart = _part(name, path, held_out)
        places = [os.path.join(place, f) for f in _folders(name, place)]
    if len(places) != 2:
        raise DataError(f"{name} must hold two folders, one for each domain")
    other, images = (_images(name, at, s, how) for at, s in zip(places, (others.get(OTHER), shape), strict=True))
    if not apart:
        other, images = _held_out(other, held_out), _held_out(images, held_out)
    digest = lambda: _joined(other.digest, images.digest)  # noqa: E731
    return dataclasses.replace(images, name=name, digest=digest, unpaired={OTHER: other})


def beside(shown: Batch | None) -> list[np.ndarray]:
    """What stands beside the images that are made of these conditions, as for `images.drawn`."""
    if shown is None:
        return []
    return [shown.labels] + ([] if shown.images is None else [shown.images])


def parts(name: str) -> list[tuple[str, int | None]]:
    """The folders that `pairs:PATH` or `domains:PATH` lies in, for `experiments.prepare`.

    Returns:
      Each, relative to PATH, and which half of its pictures has to be taken: 0 the left one, 1 the right one, or None.

    Raises:
      DataError: there is no such folder.
    """
    kind, _, path = name.partition(":")
    at = _place(name, path)
    if kind == "domains" and (beside := _beside(at)):
        return [(f, None) for both in beside for f in both]
    places = [f for f in ("train", *HELD_OUT) if os.path.isdir(os.path.join(at, f))]
    found: list[tuple[str, int | None]] = []
    for place in places if "train" in places else [""]:
        both = _folders(name, os.path.join(at, place))
        if len(both) != 2 and kind == "domains":
            raise DataError(f"{name} must hold two folders, one for each domain")
        if len(both) == 2 and kind == "pairs":
            _check_names(name, os.path.join(at, place), both)
        found += [(os.path.join(place, f), None) for f in both] if len(both) == 2 else [(place, 0), (place, 1)]
    return found


def halves(images: np.ndarray) -> list[np.ndarray]:
    """The left and the right half of images [N, H, W, C].

    Raises:
      DataError: their width is odd.
    """
    if images.shape[2] % 2:
        raise DataError(f"is {images.shape[2]} pixels wide, which are no two halves side by side; mend it")
    return np.split(images, 2, axis=2)


def _place(name: str, path: str) -> str:
    at = folder.place(name, path)
    prepared.check_finished(name, at)
    return at


def _beside(at: str) -> list[list[str]]:
    """The folders of two domains beside one another, trainA and trainB first; [] where these are not there."""
    both = [[f"{part}{domain}" for domain in "AB"] for part in ("train", *HELD_OUT)]
    there = [pair for pair in both if all(os.path.isdir(os.path.join(at, f)) for f in pair)]
    return there if there[:1] == both[:1] else []


def _part(name: str, path: str, held_out: bool) -> tuple[str, bool]:
    """The folder of the examples that are wanted, and whether the others lie elsewhere."""
    at = _place(name, path)
    train = os.path.join(at, "train")
    if not os.path.isdir(train):
        return at, False
    tests = [place for part in HELD_OUT if os.path.isdir(place := os.path.join(at, part))]
    return (tests[0] if held_out and tests else train), bool(tests)


def _folders(name: str, place: str) -> list[str]:
    """The names of two folders; [""] where there are none.

    Raises:
      DataError: there are others.
    """
    names = sorted(e.name for e in os.scandir(place) if e.is_dir() and not e.name.startswith("."))
    if len(names) not in (0, 2):
        raise DataError(
            f"{name}: {place} holds {len(names)} folders ({names[0]}, …); it must hold two, or pictures alone"
        )
    if not names and not folder.listed(name, place):
        raise DataError(f"{name}: {place} holds neither two folders nor pictures")
    return names or [""]


def _check_names(name: str, place: str, both: list[str]) -> None:
    """Refuses two folders whose files have not the same names."""
    places = [os.path.join(place, f) for f in both]
    if any(map(prepared.is_one, places)):
        if not all(map(prepared.is_one, places)):
            raise DataError(f"{name}: one of {' and '.join(both)} is prepared; give both prepared, or none")
        names = [prepared.read_about(place).names for place in places]
        if "" in names or names[0] != names[1]:
            raise DataError(
                f"{name}: {' and '.join(both)} were not prepared of files with the same names; prepare pairs:PATH"
            )
        return
    names = [[os.path.splitext("/".join(parts))[0] for parts in folder.listed(name, place)] for place in places]
    if odd := sorted({*names[0]} ^ {*names[1]}):
        side = both[0] if odd[0] in names[0] else both[1]
        raise DataError(f"{name}: {odd[0]} is in {side} alone; pairs have the same name in both folders")


def _images(name: str, place: str, shape: pixels.Shape | None, how: pixels.Fit) -> Source:
    """The images of a folder, without labels."""
    found = prepared.source(place, shape, how) if prepared.is_one(place) else folder.source(place, shape, how)
    read = found.read
    return dataclasses.replace(
        found, name=name, read=lambda which: read(which)._replace(labels=None), classes=(), labels_note="", labels=None
    )


def _side_by_side(
    name: str, place: str, shapes: tuple[pixels.Shape | None, pixels.Shape | None], how: pixels.Fit
) -> Source:
    """Pictures whose left half is the condition and whose right half the image."""
    both = _images(name, place, None, how)
    height, width, channels = both.shape
    if width % 2:
        raise DataError(f"{name}: its pictures are {width} pixels wide, which are no two halves side by side")
    of_both = [shape or (height, width // 2, channels) for shape in shapes]

    def read(which: np.ndarray) -> Batch:
        found = zip(halves(both.read(which).images), of_both, strict=True)
        of_left, of_right = (pixels.fit_all(x, shape, how) for x, shape in found)
        return Batch(of_right, None, {CONDITION: of_left})

    return Source(name, both.size, of_both[1], read, both.digest, others={CONDITION: of_both[0]})


def _held_out(found: Source, held_out: bool) -> Source:
    """A tenth of the examples, or the others, in the order that they have."""
    order = np.random.RandomState(0).permutation(found.size)
    count = max(1, found.size // 10)
    if count == found.size:
        raise DataError(f"{found.name}: one example is too few; some are held out for samples and scores")
    return found.part(np.sort(order[:count] if held_out else order[count:]))


def _joined(*digests: Callable[[], str]) -> str:
    return hashlib.sha256(" ".join(digest() for digest in digests).encode()).hexdigest()
