"""TensorBoard's event files, written at once and record by record.

tensorboardX writes them in a background thread: what it holds is lost when a process is killed, and where the disk is
full its queue fills up and stops the run. So only its message types and its checksum are used here.
"""

# The message types are made when they are imported.
# pyright: reportAttributeAccessIssue=false

import os
import re
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# A record is: uint64 length, checksum of the length, the message, checksum of the message.
HEADER, FOOTER = 12, 4


def scalars(step: int, values: Mapping[str, float]) -> bytes:
    """The records of a step's scalars."""
    from tensorboardX.proto.summary_pb2 import Summary

    return record(step=step, summary=Summary(value=[Summary.Value(tag=k, simple_value=v) for k, v in values.items()]))


def picture(step: int, tag: str, shape: tuple[int, int, int], png: bytes) -> bytes:
    """The record of an image of `shape` [H, W, C]."""
    from tensorboardX.proto.summary_pb2 import Summary

    h, w, c = shape
    image = Summary.Image(height=h, width=w, colorspace=c, encoded_image_string=png)
    return record(step=step, summary=Summary(value=[Summary.Value(tag=tag, image=image)]))


def beginning(step: int) -> bytes:
    """The records that a file begins with; of earlier files, TensorBoard then forgets `step` and what comes after."""
    from tensorboardX.proto.event_pb2 import SessionLog

    return record(file_version="brain.Event:2") + record(step=step, session_log=SessionLog(status=SessionLog.START))


def new_file(folder: Path) -> Path:
    """A name for a file that comes after those in the folder, in TensorBoard's order, which is that of names.

    It is the time, or where a clock was ahead the next second after the last of them.
    """
    stamps = (re.match(r"events\.out\.tfevents\.(\d+)", path.name) for path in folder.glob("events.out.tfevents.*"))
    after = max((int(stamp[1]) + 1 for stamp in stamps if stamp), default=0)
    seconds, nanoseconds = divmod(max(time.time_ns(), after * 10**9), 10**9)
    return folder / f"events.out.tfevents.{seconds:010d}.{nanoseconds:09d}.{os.getpid()}"


def record(**fields: object) -> bytes:
    """One record, of the fields of TensorFlow's Event message."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    message = Event(wall_time=time.time(), **fields).SerializeToString()
    length = struct.pack("<Q", len(message))
    return length + struct.pack("<I", masked_crc32c(length)) + message + struct.pack("<I", masked_crc32c(message))


def read(path: Path) -> Iterator[tuple[int, Any]]:
    """The whole records of a file, in order: where each ends, and its Event."""
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event

    size = path.stat().st_size
    with path.open("rb") as file:
        at = 0
        while at + HEADER <= size:
            length = int.from_bytes(file.read(HEADER)[:8], "little")
            end = at + HEADER + length + FOOTER
            if end > size:
                return
            try:
                event = Event.FromString(file.read(length + FOOTER)[:length])
            except DecodeError:
                return
            at = end
            yield at, event


def keep_until(folder: Path, step: int) -> None:
    """Drops the records past `step`, and half a record that a killed run has left."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        end = 0
        for at, event in read(path):
            if event.step > step and not event.HasField("session_log"):
                break
            end = at
        if end < path.stat().st_size:
            os.truncate(path, end)
