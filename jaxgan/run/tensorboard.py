"""TensorBoard's event files, written at once and record by record.

tensorboardX writes them in a background thread: what it holds is lost when a process is killed, and where the disk is
full its queue fills up and stops the run. It also imports PyTorch where that is there, which takes seconds. So the few
messages that a run needs are put together here, as Protocol Buffers encode them, by TensorFlow's event.proto and
summary.proto: https://protobuf.dev/programming-guides/encoding.
"""

import os
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

# A record is: uint64 length, checksum of the length, the message, checksum of the message.
HEADER, FOOTER = 12, 4

# The numbers of the fields in their messages.
EVENT = {"wall_time": 1, "step": 2, "file_version": 3, "summary": 5, "session_log": 7}
SUMMARY = {"value": 1}
VALUE = {"tag": 1, "simple_value": 2, "image": 4}
IMAGE = {"height": 1, "width": 2, "colorspace": 3, "encoded_image_string": 4}
SESSION_LOG, START = {"status": 1}, 1

# The types of fields, as the last three bits of what stands before one.
VARINT, DOUBLE, BYTES, FLOAT = 0, 1, 2, 5


def scalars(step: int, values: Mapping[str, float]) -> bytes:
    """The records of a step's scalars."""
    return record(step=step, summary=b"".join(_value(k, simple_value=np.float32(v)) for k, v in values.items()))


def picture(step: int, tag: str, shape: tuple[int, int, int], png: bytes) -> bytes:
    """The record of an image of `shape` [H, W, C]."""
    h, w, c = shape
    image = _message(IMAGE, height=h, width=w, colorspace=c, encoded_image_string=png)
    return record(step=step, summary=_value(tag, image=image))


def beginning(step: int) -> bytes:
    """The records that a file begins with; of earlier files, TensorBoard then forgets `step` and what comes after."""
    return record(file_version=b"brain.Event:2") + record(step=step, session_log=_message(SESSION_LOG, status=START))


def new_file(folder: Path) -> Path:
    """A name for a file that comes after those in the folder, in TensorBoard's order, which is that of names."""
    return folder / f"events.out.tfevents.{time.time_ns() // 10**9:010d}.{time.time_ns() % 10**9:09d}.{os.getpid()}"


def record(**fields: int | bytes) -> bytes:
    """One record, of the fields of TensorFlow's Event message; messages within it are encoded already."""
    message = _message(EVENT, wall_time=time.time(), **fields)
    length = struct.pack("<Q", len(message))
    return length + _checksum(length) + message + _checksum(message)


def read(path: Path) -> Iterator[tuple[int, bytes]]:
    """The whole records of a file, in order: where each ends, and its message."""
    size = path.stat().st_size
    with path.open("rb") as file:
        at = 0
        while at + HEADER <= size:
            length = int.from_bytes(file.read(HEADER)[:8], "little")
            end = at + HEADER + length + FOOTER
            if end > size:
                return
            message = file.read(length)
            if file.read(FOOTER) != _checksum(message):
                return
            at = end
            yield at, message


def keep_until(folder: Path, step: int) -> None:
    """Drops the records past `step`, and half a record that a killed run has left."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        end = 0
        for at, message in read(path):
            of, session = _step_and_session(message)
            if of > step and not session:
                break
            end = at
        if end < path.stat().st_size:
            os.truncate(path, end)


def _value(tag: str, **content: np.float32 | bytes) -> bytes:
    """One value of a summary, as the field that it is there."""
    return _message(SUMMARY, value=_message(VALUE, tag=tag.encode(), **content))


def _message(numbers: Mapping[str, int], **fields: float | bytes) -> bytes:
    """A message of fields by name: int (at least 0), float as a double, NumPy's float32, or bytes."""
    parts = []
    for name, value in fields.items():
        number = numbers[name] << 3
        if isinstance(value, bytes):
            parts += [_varint(number | BYTES), _varint(len(value)), value]
        elif isinstance(value, np.float32):
            parts += [_varint(number | FLOAT), struct.pack("<f", value)]
        elif isinstance(value, float):
            parts += [_varint(number | DOUBLE), struct.pack("<d", value)]
        elif value:  # 0 is what a field is that is not there
            parts += [_varint(number | VARINT), _varint(value)]
    return b"".join(parts)


def _varint(number: int) -> bytes:
    """Seven bits to a byte, the low ones first; the eighth says that more come."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _step_and_session(message: bytes) -> tuple[int, bool]:
    """The step of an Event, 0 where it has none, and whether it is of a session's log."""
    at, step, session = 0, 0, False

    def varint() -> int:
        nonlocal at
        number = shift = 0
        while True:
            byte, at = message[at], at + 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    while at < len(message):
        number, kind = divmod(varint(), 8)
        session |= number == EVENT["session_log"]
        if kind == VARINT:
            value = varint()
            step = value if number == EVENT["step"] else step
        else:
            size = varint() if kind == BYTES else {DOUBLE: 8, FLOAT: 4}[kind]  # which moves `at` itself
            at += size
    return step, session


def _checksum(content: bytes) -> bytes:
    from crc32c import crc32c

    crc = crc32c(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)  # masked, as TFRecord has it
