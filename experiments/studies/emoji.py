"""Arranges pictures of emoji for training: `python -m experiments.studies.emoji PACKAGE --out DIR`.

PACKAGE is the folder of the npm package emoji-datasource-google 16.0.0 (`npm pack emoji-datasource-google@16.0.0`, and
unpack it): Google's Noto Emoji v2.048, Apache License 2.0. Its 3,781 pictures of 64x64 pixels, with transparency, go to
DIR/train/CATEGORY and DIR/test/CATEGORY, in nine categories.

Many of them are variations of one another: of the colour of skin, of man, woman and person, of the direction. All
variations of one are in the same split, so that a test picture has no near copy among those that a run trains on.
"""

import dataclasses
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Annotated

import tyro

from jaxgan.commands.cli import fail, one_line_errors, parse, run_script
from jaxgan.run.screen import say

# What the names of variations differ in: tones of skin, signs that join, female and male, to the right; and a person.
VARYING = {*(f"1f3f{tone}" for tone in "bcdef"), "fe0f", "200d", "2640", "2642", "27a1"}
PERSON = ("1f468", "1f469", "1f9d1")
HELD_OUT = 5  # one of so many kinds of pictures is in the split test


@dataclasses.dataclass(frozen=True)
class Emoji:
    """Arranges the pictures of the package emoji-datasource-google in splits and categories."""

    package: Annotated[Path, tyro.conf.Positional]
    """The unpacked package."""
    out: Path
    """The folder to write."""
    pictures: int | None = None
    """Only so many of the training pictures, spread over all."""
    but: int = 0
    """Leaves out the training pictures that --pictures would take with this number."""


def main(args: list[str] | None = None) -> None:
    """Copies the pictures, and says how many there are of each split."""
    flags = parse(Emoji, "experiments.studies.emoji", args)
    with one_line_errors():
        found = listed(flags.package)
        if flags.out.exists() and any(flags.out.iterdir()):
            fail(f"--out {flags.out} holds files; name a folder that does not")
        if flags.pictures is not None and not 1 <= flags.pictures <= len(found["train"]):
            fail(f"--pictures must be from 1 to {len(found['train']):,}, not {flags.pictures}")
        if not 0 <= flags.but < len(found["train"]) - (flags.pictures or 0):
            fail(f"--but must be less than {len(found['train']):,}, the number of training pictures, not {flags.but}")
        if flags.pictures or flags.but:
            spread = sorted(found["train"], key=lambda picture: _hash(picture[1]))
            found["train"] = spread[flags.but :][: flags.pictures]
        for split, pictures in found.items():
            for category, name in pictures:
                folder = flags.out / split / category
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(flags.package / "img" / "google" / "64" / name, folder / name)
    say(f"{flags.out}: {len(found['train']):,} pictures in train, {len(found['test']):,} in test")


def listed(package: Path) -> dict[str, list[tuple[str, str]]]:
    """The pictures of each split, by category and name of their file.

    Raises:
      SystemExit: the folder is not the package.
    """
    try:
        entries = json.loads((package / "emoji.json").read_text())
    except (OSError, ValueError) as error:
        fail(f"{package} is not the unpacked package emoji-datasource-google ({error})")
    found: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for entry in entries:
        category = re.sub(r"[^a-z]+", "-", entry["category"].lower())
        for picture in [entry, *entry.get("skin_variations", {}).values()]:
            if category != "component" and picture["has_img_google"]:
                held_out = _hash(kind(picture["image"])) % HELD_OUT == 0
                found["test" if held_out else "train"].append((category, picture["image"]))
    return found


def kind(name: str) -> str:
    """What all variations of a picture have in common, of the name of its file: its code points."""
    points = [point for point in Path(name).stem.split("-") if point not in VARYING]
    return "-".join("person" if point in PERSON else point for point in points)


def _hash(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


if __name__ == "__main__":
    run_script(main)
