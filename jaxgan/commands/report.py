"""Compares runs on one HTML page: `python -m experiments.report RUN… [--out report.html]`."""

import dataclasses
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxgan.commands.cli import fail, one_line_errors, parse
from jaxgan.commands.page import figures, runs, tables
from jaxgan.commands.page.runs import Entry
from jaxgan.files import atomic_write
from jaxgan.run.plots import evenly
from jaxgan.run.screen import say

MARK = '<meta name="generator" content="jaxgan experiments.report">'  # marks a page that may be replaced
NO_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]")


@dataclasses.dataclass(frozen=True)
class Report:
    """Writes one HTML file that compares runs: scores, settings, curves, samples. It needs no other file to be read."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN…", help_behavior_hint="")] = ()
    """Workdirs of experiments.train, and folders of experiments.seeds; runs that differ in the seed are one entry."""
    out: Path = Path("report.html")
    """Where the page is written; an older page of this script is replaced, another file never."""
    title: str | None = None
    """The page's heading (by default the recipes that are compared)."""
    traceback: bool = False
    """Show the whole traceback of an error."""


def main(args: list[str] | None = None) -> None:
    """Parses the flags, reads the runs, and writes the page."""
    flags = parse(Report, "experiments.report", args)
    _check(flags)
    with one_line_errors(flags.traceback):
        entries = runs.entries([runs.read(workdir) for workdir in runs.workdirs(flags.runs)])
        program = "jaxgan report" if sys.argv[0].startswith("jaxgan") else "python -m experiments.report"
        command = f"{program} {shlex.join(sys.argv[1:] if args is None else args)}"
        content = page(entries, flags.title or _title(entries), command).encode()
        with atomic_write(flags.out) as partial:
            partial.write_bytes(content)
    count = sum(len(entry.runs) for entry in entries)
    say(f"{flags.out}: {count} run{'s' * (count > 1)}, {len(content) / 1e6:.1f} MB; open it in a browser")


def page(entries: Sequence[Entry], title: str, command: str) -> str:
    """The whole page, with its heading and the command that makes it. Whatever users have named is escaped in it."""
    import jinja2

    folder = jinja2.FileSystemLoader(Path(runs.__file__).parent)
    templates = jinja2.Environment(
        loader=folder, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    names: dict[str, Any] = {"figures": figures, "runs": runs, "tables": tables, "evenly": evenly}
    page = templates.get_template("page.html", globals=names)
    html = page.render(entries=entries, heading=title, command=command, mark=MARK).lstrip()
    # What HTML cannot hold, such as bytes of names that are no text, becomes \ufffd.
    return NO_TEXT.sub("\ufffd", html.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def _title(entries: Sequence[Entry]) -> str:
    recipes = dict.fromkeys(str(run.config["recipe"]) for entry in entries for run in entry.runs)
    return ("Runs of " if len(entries) > 1 else "A run of ") + ", ".join(recipes)


def _check(flags: Report) -> None:
    """Ends the program where the flags are wrong."""
    if not flags.runs:
        fail("name at least one RUN: the workdir of a run of experiments.train, or a folder of experiments.seeds")
    if flags.out.suffix.lower() not in (".html", ".htm") or flags.out.is_dir():
        fail(f"--out {flags.out} must be a file that ends in .html")
    if not flags.out.parent.is_dir():
        fail(f"--out {flags.out}: there is no folder {flags.out.parent}; make it first")
    if flags.out.exists():
        try:
            with flags.out.open("rb") as file:
                ours = MARK.encode() in file.read(2000)
        except OSError as error:
            fail(f"--out {flags.out} cannot be read ({error.strerror}); name another")
        if not ours:
            fail(f"--out {flags.out} is a file that this script has not written; name another")
