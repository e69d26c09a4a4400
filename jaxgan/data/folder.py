"""A folder of image files."""

import hashlib
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator

import numpy as np

from jaxgan.data import digests, pixels, prepared
from jaxgan.data.dataset import DataError, one_line
from jaxgan.data.source import Source, stacked
from jaxgan.gan import Batch

Parts = tuple[str, ...]


def source(path: str, shape: pixels.Shape | None, how: pixels.Fit = "crop") -> Source:
    """All image files below a folder, in the order of their paths relative to it.

    Names are compared byte by byte, one folder after the other, so that neither the locale nor the file system nor
    the place of the folder has a say in the order. Links are followed. What is hidden (its name, or that of a folder
    above it, begins with a dot) is left out, and a line on stderr counts the image files among it. All else must be
    an image; of one size, where no shape is given to bring them to.

    Where every image lies in a folder that is directly in this one, each of those folders is a class. Their names
    are the classes, in order. Else there are no labels, and `labels_note` says what is in the way.

    Args:
      path: the folder. One that begins with ~ and is no folder as it stands is looked for in the home directory.
      shape: as for `pixels.fit`.
      how: as for `pixels.fit`.

    Raises:
      DataError: there is no such folder, or it holds something that is no file. Reading raises one for a file that is
        no image, or is gone.
    """
    name = f"folder:{path}"
    folder = place(name, path)
    if prepared.is_one(folder):
        raise DataError(f"{name}: experiments.prepare has written this folder; use prepared:{path}")
    files = listed(name, folder)
    if not files:
        raise DataError(f"{name}: the folder holds no files; put PNG or JPEG images there")
    labels, classes = labels_of(files)

    def image(parts: Parts) -> np.ndarray:
        file = os.path.join(folder, *parts)
        try:
            return pixels.read(file, shape, how)
        except DataError as error:
            raise DataError(f"{name}: {file} {error}") from error

    of_all = shape or image(files[0]).shape

    def read(which: np.ndarray) -> Batch:
        examples = ((os.path.join(*files[number]), image(files[number])) for number in which)
        images = stacked(examples, len(which), of_all, name, os.path.join(*files[0]))
        return Batch(images, None if labels is None else labels[which])

    def digest() -> str:
        return digests.of_files([("/".join(parts), os.path.join(folder, *parts)) for parts in files])

    note = labels_note(name, folder, files)
    return Source(name, len(files), of_all, read, digest, classes, note, labels=labels)


def look(name: str, most: int = 1_000) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and kinds of the pictures of `folder:PATH`, by what their files say of themselves.

    Args:
      name: of the data.
      most: how many are looked at, spread over all of them.

    Returns:
      Height and width of each, int [n, 2], and whether it is grey, bool [n].

    Raises:
      DataError: there is no such folder, or one of these files is no image.
    """
    from PIL import Image, UnidentifiedImageError

    root = place(name, name.partition(":")[2])
    files, sizes, grey = listed(name, root), [], []
    if not files:
        raise DataError(f"{name}: the folder holds no files; put PNG or JPEG images there")
    for number in np.unique(np.linspace(0, len(files) - 1, most).astype(int)):
        file = os.path.join(root, *files[number])
        try:
            with Image.open(file) as image:
                sizes.append((image.height, image.width))
                grey.append(image.mode in pixels.GREY)
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise DataError(f"{name}: {file} is not an image that can be read; remove or mend it") from error
    return np.array(sizes), np.array(grey)


def place(name: str, path: str) -> str:
    """Where a folder is: one that begins with ~ and is no folder as it stands is in the home directory.

    Raises:
      DataError: there is none.
    """
    folder = path if os.path.isdir(path) else os.path.expanduser(path)
    if not path or not os.path.isdir(folder):
        raise DataError(f"{name}: there is no folder {path!r}; give the path of a folder of image files")
    return folder


def listed(name: str, folder: str, odd: list[tuple[Parts, str]] | None = None) -> list[Parts]:
    """The files below a folder that are not hidden, in the order of their bytes; a line on stderr counts the others.

    Its arguments and errors are those of `walk`.
    """
    from PIL import Image

    files, hidden = [], 0
    for parts in walk(name, folder, odd):
        if not _hidden(parts):
            files.append(parts)
        elif os.path.splitext(parts[-1])[1].lower() in Image.registered_extensions():
            hidden += 1
    if hidden and files:
        print(f"{one_line(name)}: {hidden} hidden image files (.*) were left out", file=sys.stderr, flush=True)
    return sorted(files, key=lambda parts: [os.fsencode(part) for part in parts])


def labels_of(files: list[Parts]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The labels of files, int32 [N], and the names of their classes; (None, ()) where they do not lie in classes."""
    if any(len(parts) != 2 for parts in files):
        return None, ()
    classes = sorted({parts[0] for parts in files}, key=os.fsencode)
    numbers = {c: i for i, c in enumerate(classes)}
    return np.array([numbers[parts[0]] for parts in files], np.int32), tuple(classes)


def digest_of_names(files: list[Parts]) -> str:
    """Of the names of files without their endings, in their order: two folders of pairs have the same."""
    names = "\0".join(os.path.splitext("/".join(parts))[0] for parts in files)
    return hashlib.sha256(os.fsencode(names)).hexdigest()


def labels_note(name: str, folder: str, files: list[Parts]) -> str:
    """Why files, as from `listed`, have no labels, and what would give them some; or which folders are no classes."""
    depths = Counter(map(len, files))
    usual = max(depths, key=lambda depth: (depths[depth], depth == 2))
    if usual == 1:
        return "its images do not lie in folders; make one in it for each class"
    if usual > 2:
        above = Counter(parts[: usual - 2] for parts in files if len(parts) == usual).most_common(1)[0][0]
        inner = "/".join((name.rstrip("/"), *above))
        return f"its images lie {usual - 1} folders deep; name {inner} for folders of classes"
    classes = {parts[0] for parts in files if len(parts) == 2}
    if odd := ["/".join(parts) for parts in files if len(parts) != 2]:
        lie, them = ("lies", "it") if len(odd) == 1 else ("lie", "them")
        of_all = f"of {len(files):,} files, {_some(odd)} {lie} not directly in one of its {len(classes):,} folders"
        return f"{of_all} of classes; move {them} into one, or away"
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if not _hidden((e.name,)) and _kind(e) == "folder")
    empty = [name for name in names if name not in classes]
    return f"{_some(empty)}: no images there, and so no class" if empty else ""


def _some(names: list[str]) -> str:
    """A name, or the first of several and their number."""
    return names[0] if len(names) == 1 else f"{len(names):,} ({names[0]}, …)"


def walk(name: str, folder: str, odd: list[tuple[Parts, str]] | None = None) -> Iterator[Parts]:
    """The paths, relative to the folder and in parts, of all files below it; links to folders are followed.

    A link to a folder that it is in itself is not followed: nothing else is there. What is not hidden, and can neither
    be entered nor read as a file, is added to `odd`, with what it is; or without such a list is a DataError.
    """
    waiting: list[tuple[Parts, frozenset[str]]] = [((), frozenset())]  # a folder, and the real paths of those it is in
    while waiting:
        parts, above = waiting.pop()
        here = os.path.join(folder, *parts)
        real = os.path.realpath(here)
        if real in above:
            continue
        try:
            entries = list(os.scandir(here))
        except OSError as error:
            if _hidden(parts):
                continue
            raise DataError(f"{name}: {here} cannot be read ({error.strerror}); make it readable") from error
        for entry in entries:
            below = (*parts, entry.name)
            kind = _kind(entry)
            if kind == "folder":
                waiting.append((below, above | {real}))
            elif kind == "file":
                yield below
            elif odd is not None and not _hidden(below):
                odd.append((below, f"is {kind}"))
            elif not _hidden(below):
                raise DataError(f"{name}: {os.path.join(here, entry.name)} is {kind}; remove or mend it")


def _kind(entry: os.DirEntry[str]) -> str:
    """What a path leads to: "folder", "file", or words for what is neither. A named pipe is not opened."""
    if not entry.is_symlink() and entry.is_file(follow_symlinks=False):
        return "file"  # as the folder itself says, and need not be asked for
    try:
        mode = os.stat(entry.path).st_mode
    except OSError as error:
        what = "a broken link" if entry.is_symlink() else "not to be had"
        return f"{what} ({error.strerror})"
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "no regular file"


def _hidden(parts: Parts) -> bool:
    return any(part.startswith(".") for part in parts)
