"""Links to folders whose paths hold characters that Orbax and TensorStore do not take as they are.

Orbax reads a path as a glob pattern, and TensorStore wants UTF-8.
"""

import contextlib
import os
import re
import tempfile
from pathlib import Path

PLAIN = re.compile(r"[A-Za-z0-9 ._/+=@,:-]*")


def link(path: Path) -> Path | None:
    """A link to a folder, in a folder of this process alone, under a plain name; None where its path is plain."""
    if PLAIN.fullmatch(str(path)):
        return None
    parent = tempfile.mkdtemp(prefix="jaxgan-")
    if not PLAIN.fullmatch(parent):
        os.rmdir(parent)
        parent = tempfile.mkdtemp(prefix="jaxgan-", dir="/tmp")
    made = Path(parent) / "checkpoints"
    made.symlink_to(path, target_is_directory=True)
    return made


def remove(made: Path | None) -> None:
    """Removes what `link` has made."""
    if made is not None:
        made.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            made.parent.rmdir()
