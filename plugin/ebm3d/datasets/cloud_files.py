"""Contents of point cloud files that describe themselves: ``.npy``, ``.ply`` and ``.pcd``."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


def parse_npy(content: bytes) -> NDArray[Any]:
    """An array ``(P, C)``, or a structured one, of a ``.npy`` file."""
    data: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return data


def parse_ply(content: bytes) -> NDArray[Any]:
    """The vertices of a ``.ply`` file, a structured array."""
    from plyfile import PlyData

    data: NDArray[Any] = PlyData.read(io.BytesIO(content))["vertex"].data
    return data


def parse_pcd(content: bytes) -> NDArray[Any]:
    """The points of a ``.pcd`` file, a structured array.

    Not by Open3D 0.19: fields of padding, as PCL writes them, abort its process.
    """
    header: dict[str, list[str]] = {}
    start = 0
    while "DATA" not in header:
        end = content.index(b"\n", start)
        words = content[start:end].decode("ascii").split("#")[0].split()
        if words:
            header[words[0].upper()] = words[1:]
        start = end + 1
    counts = [int(c) for c in header.get("COUNT", ["1"] * len(header["FIELDS"]))]
    kinds = [
        f"<{'iuf'['IUF'.index(t)]}{size}"
        for t, size in zip(header["TYPE"], header["SIZE"], strict=True)
    ]
    fields = zip(header["FIELDS"], kinds, counts, strict=True)
    record = np.dtype(
        [
            (f"padding {i}" if name == "_" else name, kind, () if count == 1 else count)
            for i, (name, kind, count) in enumerate(fields)
        ]
    )
    num_points = int(header["POINTS"][0]) if "POINTS" in header else int(header["WIDTH"][0])
    storage = header["DATA"][0].lower()
    if storage == "ascii":
        lines = content[start:].decode("ascii").split("\n")
        rows = [tuple(map(float, line.split())) for line in lines if line.strip()]
        if len(rows) < num_points:
            raise ValueError(f"{len(rows)} of {num_points} points")
        table = np.array(rows[:num_points], dtype=np.float64).reshape(num_points, sum(counts))
        data = np.zeros(num_points, dtype=record)
        for name, column in zip(record.names or (), np.cumsum([0, *counts]), strict=False):
            if record[name].shape == ():
                data[name] = table[:, column]
        return data
    if storage == "binary":
        return np.frombuffer(content, dtype=record, count=num_points, offset=start)
    if storage != "binary_compressed":
        raise ValueError(f"DATA {storage}")
    packed, size = np.frombuffer(content, dtype="<u4", count=2, offset=start).tolist()
    if size != record.itemsize * num_points or len(content) < start + 8 + packed:
        raise ValueError(f"{len(content)} bytes, cut off")
    columns = unpack_lzf(np.frombuffer(content, np.uint8, packed, start + 8), size)
    data, offset = np.zeros(num_points, dtype=record), 0
    for name in record.names or ():
        length = record[name].itemsize * num_points
        data[name] = (
            columns[offset : offset + length].view(record[name].base).reshape(data[name].shape)
        )
        offset += length
    return data


@numba.njit(cache=True, nogil=True)
def unpack_lzf(packed: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Decompress ``size`` bytes of LZF, the compression of PCL; raise if there are not as many."""
    out = np.empty(size, dtype=np.uint8)
    i = o = 0
    while i < len(packed):
        control = int(packed[i])
        i += 1
        if control < 32:  # literals
            length, source = control + 1, -1
        else:  # a copy of earlier bytes
            length = control >> 5
            if length == 7:
                if i >= len(packed):
                    raise ValueError("compressed points are damaged")
                length += int(packed[i])
                i += 1
            if i >= len(packed):
                raise ValueError("compressed points are damaged")
            source = o - ((control & 31) << 8) - int(packed[i]) - 1
            i += 1
            length += 2
            if source < 0:
                raise ValueError("compressed points are damaged")
        if o + length > size or (source < 0 and i + length > len(packed)):
            raise ValueError("compressed points are damaged")
        for _ in range(length):
            if source < 0:
                out[o] = packed[i]
                i += 1
            else:
                out[o] = out[source]
                source += 1
            o += 1
    if o != size:
        raise ValueError("compressed points are damaged")
    return out


PARSERS: dict[str, Callable[[bytes], NDArray[Any]]] = {
    ".npy": parse_npy,
    ".ply": parse_ply,
    ".pcd": parse_pcd,
}
