"""TensorBoard event files: their scalars, read with the message definitions of tensorboardX."""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.errors import UserErrors
from jaxreg.study.tables.records import Columns

_MARK = ".tfevents."
_MOST_CHECKED = 4_096
"""Bytes of a record whose checksum is computed: scalars are far smaller, pictures are larger."""


def is_event_file(name: str) -> bool:
    """Whether a file is one of TensorBoard's, by its name."""
    return _MARK in name


def read(path: Path, name: str) -> Columns:
    """The scalars of a file, one a row: step, tag, value. An unfinished last record is left out.

    Raises:
      UserErrors: the file is damaged, or has no scalars.
    """
    from tensorboardX.proto import event_pb2

    columns: dict[str, list] = {"step": [], "tag": [], "value": []}
    content, notes = path.read_bytes(), ()
    for record in _records(content, name):
        if record is None:
            notes = (f"{name}: its last record is unfinished and left out",)
            continue
        try:
            # protobuf makes the class when the module is loaded
            event = event_pb2.Event.FromString(record)  # pyright: ignore[reportAttributeAccessIssue]
        except Exception as error:  # protobuf's own error has several homes
            raise UserErrors([f"{name}: has a record that is no event"]) from error
        for value in event.summary.value:
            number = _number(value)
            if number is not None:
                columns["step"].append(event.step)
                columns["tag"].append(value.tag)
                columns["value"].append("nan" if math.isnan(number) else number)
    if not columns["step"]:
        raise UserErrors([f"{name}: has no scalars"])
    return Columns(columns, name, "scalar", notes=notes)


def _records(content: bytes, name: str) -> Iterator[bytes | None]:
    """The records of a TFRecord file (length, its checksum, content, its checksum).

    None stands for an unfinished last one.
    """
    from tensorboardX.record_writer import masked_crc32c

    at = 0
    while at + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        (checksum,) = struct.unpack_from("<I", content, at + 8)
        if masked_crc32c(content[at : at + 8]) != checksum:
            raise UserErrors([f"{name}: is damaged at byte {at:,}, or is no event file"])
        start, at = at + 12, at + 16 + length
        if at > len(content):
            yield None
            return
        record = content[start : start + length]
        (checksum,) = struct.unpack_from("<I", content, start + length)
        if length <= _MOST_CHECKED and masked_crc32c(record) != checksum:
            raise UserErrors([f"{name}: is damaged at byte {start:,}"])
        yield record
    if at < len(content):
        yield None


def _number(value: Any) -> float | None:
    """The scalar of a summary's value, in either of TensorBoard's forms; None for another kind."""
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return value.simple_value
    plugin = value.metadata.plugin_data.plugin_name
    if kind != "tensor" or plugin not in ("scalars", ""):
        return None
    tensor = value.tensor
    if any(dim.size != 1 for dim in tensor.tensor_shape.dim):
        return None
    for field in ("float_val", "double_val", "int_val", "int64_val", "half_val"):
        found = getattr(tensor, field)
        if len(found) == 1 and field != "half_val":
            return float(found[0])
    kinds = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64}  # of TensorFlow's DataType
    if tensor.dtype in kinds and tensor.tensor_content:
        return float(np.frombuffer(tensor.tensor_content, kinds[tensor.dtype])[0])
    return None
