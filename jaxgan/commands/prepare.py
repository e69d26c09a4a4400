"""Images prepared once: `python -m experiments.prepare folder:PATH --size 64 --out DIR`; or pairs:PATH.

The images of a folder are decoded, cropped and resized on all cores, and written as raw pixels; `--data prepared:DIR`
then reads them with no decoding. Of pairs and domains each folder is prepared by itself, into a folder of the same name
in DIR, and `--data pairs:DIR` or `domains:DIR` reads those. Stopped and started again, it goes on where it was. A file
that is no image, or a damaged one, is left out and named; the others are what `folder:PATH` gives without it.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import math
import os
import re
import shlex
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from jaxgan.commands.cli import fail, one_line_errors, parse
from jaxgan.commands.shards import Shard, Written, start_server, written
from jaxgan.data import DataError, Fit, Shape, folder, pairs, prepared
from jaxgan.data.dataset import extra, one_line
from jaxgan.files import atomic_write
from jaxgan.run.screen import say
from jaxgan.run.workdir import append, write_json

SHARD = 64 * 2**20  # bytes of a shard at most, unless there are MOST shards
MOST = 512  # shards: a reader keeps all of them open
SHARED, SMALLEST = 64, 64  # shards are smaller, so that the cores have as many to share, but each has so many images
NAMED = 5  # skipped files that are named on stderr
OURS = re.compile(r"images-\d{5}\.array_record(\.\d+\.partial)?|(prepared\.json|labels\.npy)(\.partial)?")


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Decodes, crops and resizes a folder of images once, into raw pixels that `--data prepared:DIR` reads."""

    images: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="folder:PATH")]
    """The images. Where each lies in a folder directly in PATH, those folders are the classes. Or pairs:PATH, or
    domains:PATH: two folders of pictures, or pictures of both side by side."""
    size: str
    """Of all images: one number, or HEIGHTxWIDTH."""
    out: Path
    """The folder to write."""
    fit: Fit = "crop"
    """An image of another aspect ratio is cropped around its centre, or has black beside it."""
    channels: Literal[3, 1] = 3
    """3 for RGB, 1 for grey."""
    strict: bool = False
    """End at the first file that cannot be used."""
    processes: int | None = None
    """How many decode at once (by default one for each core)."""


def main(args: list[str] | None = None) -> None:
    """Prepares a folder, and says how many images there are and how many files were left out."""
    flags = parse(Prepare, "experiments.prepare", args)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with one_line_errors():
        try:
            start_server()
            prepare_all(flags)
        except KeyboardInterrupt:
            fail("stopped; the same command goes on with it", 130)


def prepare_all(flags: Prepare) -> None:
    """Prepares a folder, or each of those that pairs or domains lie in.

    Raises:
      DataError: one cannot be prepared.
    """
    kind, _, path = flags.images.partition(":")
    if kind not in pairs.KINDS:
        prepare(flags)
        return
    extra(prepared.RECORDS, flags.images)
    root = folder.place(flags.images, path)
    _check_apart(flags, root)
    parts, command = pairs.parts(flags.images), _command(flags)
    with _alone(flags.out):
        ours = {prepared.UNFINISHED, *(Path(name or pairs.HALVES[half or 0]).parts[0] for name, half in parts)}
        if others := sorted(entry.name for entry in flags.out.iterdir() if entry.name not in ours):
            raise DataError(f"--out {flags.out} holds other files ({others[0]}); name another")
        (flags.out / prepared.UNFINISHED).write_text(json.dumps({"command": command}) + "\n")
        for name, half in parts:
            changed = {"images": f"folder:{os.path.join(root, name)}", "strict": flags.strict or kind == "pairs"}
            out = flags.out / name / ("" if half is None else pairs.HALVES[half])
            prepare(dataclasses.replace(flags, **changed, out=out), command, half)
        (flags.out / prepared.UNFINISHED).unlink()
    say(f"{flags.out}: all of it; --data {kind}:{flags.out}")


def prepare(flags: Prepare, command: str = "", half: int | None = None) -> prepared.About:
    """Prepares a folder, and gives what its prepared.json says.

    Args:
      flags: which folder, and how.
      command: what goes on with it where it is stopped, if not one of these flags.
      half: of pictures of a pair side by side, 0 for the left one and 1 for the right one.

    Raises:
      DataError: it cannot be prepared.
    """
    begin = time.perf_counter()
    extra(prepared.RECORDS, flags.images)
    shape = _shape(flags)
    root, files, odd = _listed(flags)
    about: dict[str, Any] = {"size": list(shape), "fit": flags.fit, "files": len(files)}
    about["listing"] = _digest(root, files)
    nbytes, length = math.prod(shape), images_of_a_shard(len(files), math.prod(shape))
    shards = [
        Shard(str(flags.out), number, flags.images, root, files[start : start + length], shape, flags.fit, half)
        for number, start in enumerate(range(0, len(files), length))
    ]
    with _alone(flags.out):
        done = _known(flags, about, shards)
        for left in flags.out.glob("*.partial"):
            left.unlink(missing_ok=True)
        _refuse(flags, [*odd, *(skip for of in done.values() for skip in of.skipped)], not command)
        missing = [shard for shard in shards if shard.number not in done]
        _check_space(flags.out, sum(len(shard.files) for shard in missing) * (nbytes + 128) + len(missing) * 2**18)
        journal = flags.out / prepared.UNFINISHED
        with atomic_write(journal) as partial:
            lines = [
                {"command": command or _command(flags), **about},
                *(dataclasses.asdict(of) for of in done.values()),
            ]
            partial.write_text("".join(json.dumps(line) + "\n" for line in lines))
        with contextlib.closing(written(missing, flags.processes or len(os.sched_getaffinity(0)))) as found:
            for of in found:
                append(journal, json.dumps(dataclasses.asdict(of)).encode() + b"\n")
                done[of.shard] = of
                _refuse(flags, of.skipped, not command)
        result = _finish(flags, root, about, shards, [done[shard.number] for shard in shards], odd)
    now = sum(len(shard.files) - len(done[shard.number].skipped) for shard in missing)
    _report(flags, result, now, time.perf_counter() - begin, not command)
    return result


def images_of_a_shard(images: int, nbytes: int) -> int:
    """How many of `images`, each of `nbytes` bytes, a shard holds; the same on every machine."""
    of_share, of_bytes = max(SMALLEST, -(-images // SHARED)), max(1, SHARD // nbytes)
    return max(min(of_share, of_bytes), -(-images // MOST))


def _shape(flags: Prepare) -> Shape:
    found = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", flags.size)
    if not found:
        raise DataError(f"--size {flags.size}: it must be one number, or HEIGHTxWIDTH, such as 64 or 48x64")
    if flags.processes is not None and flags.processes < 1:
        raise DataError(f"--processes must be at least 1, not {flags.processes}")
    return int(found[1]), int(found[2] or found[1]), flags.channels


def _listed(flags: Prepare) -> tuple[str, list[folder.Parts], list[list[str]]]:
    """The folder of images, the files there, and what there is no file, with the reason."""
    kind, _, path = flags.images.partition(":")
    if kind != "folder":
        there = f"; give folder:{flags.images}" if os.path.isdir(flags.images) else ""
        raise DataError(f"{flags.images}: only folder:PATH, pairs:PATH and domains:PATH can be prepared{there}")
    root = folder.place(flags.images, path)
    if prepared.is_one(root):
        raise DataError(f"{flags.images}: it is prepared already; use --data prepared:{path}")
    _check_apart(flags, root)
    odd: list[tuple[folder.Parts, str]] = []
    files = folder.listed(flags.images, root, odd)
    if not files:
        raise DataError(f"{flags.images}: the folder holds no files; put PNG or JPEG images there")
    return root, files, [["/".join(parts), reason] for parts, reason in sorted(odd)]


def _check_apart(flags: Prepare, root: str) -> None:
    if Path(os.path.realpath(flags.out)).is_relative_to(os.path.realpath(root)):
        raise DataError(f"--out {flags.out} is within {flags.images}; name a folder that is not")


def _digest(root: str, files: list[folder.Parts]) -> str:
    """Of the files' names, sizes and times: it changes with the folder."""
    digest = hashlib.sha256()
    for parts in files:
        try:
            found = os.stat(os.path.join(root, *parts))
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read ({error.strerror})") from error
        digest.update(os.fsencode("/".join(parts)) + b"\0%d %d\n" % (found.st_size, found.st_mtime_ns))
    return digest.hexdigest()


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Makes a folder, and keeps other processes from preparing into it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        held = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"--out {out} cannot be made ({error.strerror}); name another") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it when this process ends
        yield
    except BlockingIOError as error:
        raise DataError(f"--out {out}: another process is preparing into it; wait for it, or name another") from error
    finally:
        os.close(held)


def _known(flags: Prepare, about: dict[str, Any], shards: list[Shard]) -> dict[int, Written]:
    """The shards that are there and whole, by their numbers.

    Raises:
      DataError: the folder holds something else.
    """
    out = flags.out
    try:
        then, found = _journal(out) or _finished(out, shards)
    except (ValueError, TypeError) as error:
        raise DataError(f"--out {out} is damaged ({error}); remove {out}, or name another --out") from error
    if then is None:
        others = sorted(entry.name for entry in out.iterdir() if not OURS.fullmatch(entry.name))
        if others:
            raise DataError(f"--out {out} holds other files ({others[0]}); name another")
        return {}
    differs = _difference(then, about, flags)
    if differs:
        raise DataError(f"--out {out} was begun with {differs}; name another, or remove it")
    sizes = {entry.path: entry.stat().st_size for entry in os.scandir(out)}
    return {of.shard: of for of in found if sizes.get(shards[of.shard].path) == of.bytes}


def _journal(out: Path) -> tuple[dict[str, Any], list[Written]] | None:
    """What an unfinished run was asked for and has written, by its journal; None where there is none."""
    with contextlib.suppress(FileNotFoundError):
        first, *others = (out / prepared.UNFINISHED).read_text().splitlines(keepends=True)
        return json.loads(first), [Written(**json.loads(line)) for line in others if line.endswith("\n")]
    return None


def _finished(out: Path, shards: list[Shard]) -> tuple[dict[str, Any] | None, list[Written]]:
    """The same of a finished run; (None, []) where there is none."""
    try:
        about = prepared.read_about(str(out))
    except FileNotFoundError:
        return None, []
    skipped, found = dict(about.skipped), []
    for shard, of in zip(shards, about.shards.values(), strict=False):
        names = ["/".join(parts) for parts in shard.files]
        found.append(Written(shard.number, of["bytes"], [[name, skipped[name]] for name in names if name in skipped]))
    return dataclasses.asdict(about), found


def _difference(then: dict[str, Any], now: dict[str, Any], flags: Prepare) -> str:
    """How what was asked for when a folder was begun differs from what is asked for now, in words; or ""."""
    if list(then["size"]) != now["size"]:
        one, other = ("x".join(map(str, x)) for x in (then["size"], now["size"]))
        return f"images of {one}, not {other}"
    if then["fit"] != now["fit"]:
        return f"--fit {then['fit']}, not {now['fit']}"
    if then["files"] != now["files"]:
        return f"{then['files']:,} files of {flags.images}, which has {now['files']:,} now"
    return "" if then["listing"] == now["listing"] else f"files of {flags.images} of other names, sizes or times"


def _refuse(flags: Prepare, skipped: list[list[str]], alone: bool) -> None:
    if flags.strict and skipped:
        then = ", or go without --strict" if alone else f", remove {flags.out}, and say the same again"
        raise DataError(f"{flags.images}: {skipped[0][0]} {skipped[0][1]}; mend or remove it{then}")


def _check_space(out: Path, needed: int) -> None:
    free = shutil.disk_usage(out).free
    if free < needed:
        one, other = (f"{size / 2**30:.2f} GiB" for size in (needed, free))
        raise DataError(f"--out {out}: {one} are to be written, and {other} are free there; name another")


def _command(flags: Prepare) -> str:
    """The command that goes on with this, from any folder."""
    kind, _, path = flags.images.partition(":")
    parts = [
        f"{kind}:{os.path.abspath(folder.place(flags.images, path))}",
        "--size",
        flags.size,
        "--out",
        os.path.abspath(flags.out),
    ]
    parts += ["--fit", flags.fit] * (flags.fit != "crop") + ["--channels", "1"] * (flags.channels == 1)
    return f"python -m experiments.prepare {shlex.join(parts)}"


def _finish(
    flags: Prepare, root: str, about: dict[str, Any], shards: list[Shard], done: list[Written], odd: list[list[str]]
) -> prepared.About:
    """Writes labels.npy and prepared.json."""
    skipped = [skip for of in done for skip in of.skipped]
    without = {name for name, _ in skipped}
    kept = [parts for shard in shards for parts in shard.files if "/".join(parts) not in without]
    if not kept:
        name, reason = skipped[0]
        of = f"none of {about['files']:,} files is an image that can be used"
        raise DataError(f"{flags.images}: {of}: {name} {reason}")
    labels, classes = folder.labels_of(kept)
    if labels is None:
        (flags.out / prepared.LABELS).unlink(missing_ok=True)
    else:
        with atomic_write(flags.out / prepared.LABELS) as partial, partial.open("wb") as file:
            np.save(file, labels)
    sizes = {
        os.path.basename(shard.path): {"images": len(shard.files) - len(of.skipped), "bytes": of.bytes}
        for shard, of in zip(shards, done, strict=True)
    }
    result = prepared.About(
        prepared.FORMAT,
        **about,
        images=len(kept),
        classes=classes,
        shards=sizes,
        skipped=tuple((name, reason) for name, reason in odd + skipped),
        labels_note=folder.labels_note(flags.images, root, kept),
        names=folder.digest_of_names(kept),
    )
    write_json(flags.out / prepared.ABOUT, dataclasses.asdict(result))
    (flags.out / prepared.UNFINISHED).unlink(missing_ok=True)
    return result


def _report(flags: Prepare, result: prepared.About, now: int, seconds: float, alone: bool) -> None:
    """One line of what there is, and one on stderr for each of the first files that were left out."""
    for name, reason in result.skipped[:NAMED]:
        say(f"skipped: {one_line(name)} {one_line(reason)}", "stderr")
    if len(result.skipped) > NAMED:
        say(f"skipped: {len(result.skipped) - NAMED:,} more; {flags.out}/{prepared.ABOUT} names all", "stderr")
    if result.labels_note and alone:
        say(f"labels: {one_line(result.labels_note)}", "stderr")
    size = sum(shard["bytes"] for shard in result.shards.values()) / 2**20
    classes = f" in {len(result.classes):,} classes" if result.classes else " without labels"
    rate = f", {now / seconds:,.0f} images/s" if now else ", all there before"
    skipped = f"{len(result.skipped):,} skipped" if result.skipped else "none skipped"
    images = f"{result.images:,} images{classes}, {size:,.1f} MiB{rate}, {skipped}"
    say(f"{flags.out}: {images}" + f"; --data prepared:{flags.out}" * alone)
