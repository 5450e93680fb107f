"""Pickles of detectors, read without running anything of theirs, and written back.

Arrays are numpy's. Objects of torch and mmdet3d become :class:`Foreign`: what their pickle says of
them, with a view of the numbers of tensors, and the same again when they are written.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.problems import DataError, Problem, unreadable
from ebm3d.datasets.text import other_kind

# Numpy 1 and 2 read the old names and protocol 3, which has no buffers of protocol 5.
_PROTOCOL = 3
_BUILTINS = (
    "bytes",
    "set",
    "frozenset",
    "slice",
    "range",
    "complex",
    "bytearray",
    "list",
    "dict",
    "tuple",
)
_ALLOWED = {
    *(("builtins", name) for name in _BUILTINS),
    *(("__builtin__", name) for name in _BUILTINS),
    *(("numpy", name) for name in ("ndarray", "dtype", "float64", "float32", "int64", "bool_")),
    *(("numpy.core.multiarray", name) for name in ("_reconstruct", "scalar")),
    ("numpy.core.numeric", "_frombuffer"),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
}
_FOREIGN = {
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch.storage", "_load_from_bytes"),
    ("torch", "Size"),
    ("torch", "device"),
}
_BOXES = "mmdet3d.structures.bbox_3d."
_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
_EXPECTED = "a pickle of arrays, tensors and mmdet3d's boxes"


class Foreign:
    """An object of another package: its arguments and state, without its code."""

    called = False
    args: tuple[Any, ...]

    def __new__(cls, *args: Any) -> Foreign:
        """Keep the arguments."""
        made = super().__new__(cls)
        made.__dict__["args"] = args
        return made

    def __init__(self, *args: Any) -> None:
        """Called, not made by ``__new__`` alone: written as it was read."""
        self.__dict__["called"] = True

    def __setstate__(self, state: Any) -> None:
        """Keep the state."""
        self.__dict__["state"] = state

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """The pickle that it was read from."""
        state = (self.__dict__["state"],) if "state" in self.__dict__ else ()
        if self.called:
            return (type(self), self.args, *state)
        return (_new_object, (type(self), *self.args), *state)


def _new_object(cls: Any, *args: Any) -> Any:
    """Stands for ``copyreg.__newobj__``, which pickle knows by name."""
    return cls.__new__(cls, *args)


_new_object.__name__ = "__newobj__"


class _NotAllowedError(pickle.UnpicklingError):
    """A name that no file of boxes needs."""


class _Reader(pickle.Unpickler):
    """Finds what is allowed, and nothing else."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.foreign: dict[tuple[str, str], type] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return an allowed type or function, or a stand-in for a known foreign one."""
        key = (module.replace("numpy._core", "numpy.core"), name)
        if key in _ALLOWED:
            return super().find_class(*key)  # numpy 2 keeps these old names too
        is_type = module == "torch" and (name in _STORAGES or name.startswith(("float", "int")))
        if key in _FOREIGN or is_type or module.startswith(_BOXES):
            known = self.foreign
            return known.setdefault(key, type(name, (Foreign,), {"__module__": module}))
        raise _NotAllowedError(f"{module}.{name}, which is not allowed in it")

    def persistent_load(self, pid: Any) -> Any:
        """The description of a storage within torch's own format."""
        return pid


class _Writer(pickle._Pickler):
    """Writes foreign names without importing them, and numpy's old names.

    Pickle's own C class imports each; its Python class lets names be written as they are.
    """

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_global(self, obj: Any, name: str | None = None) -> None:
        """Write module and name of a type or function."""
        module = obj.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{name or obj.__name__}\n".encode())  # type: ignore[attr-defined]
        self.memoize(obj)  # type: ignore[attr-defined]

    def _save_array(self, array: NDArray[Any]) -> None:
        """Write an array by the C class, ten times faster; without memo, it fits in anywhere."""
        if array.dtype.hasobject:
            self.save_reduce(*array.__reduce__(), obj=array)  # type: ignore[attr-defined]
            return
        file = io.BytesIO()
        pickler = pickle.Pickler(file, _PROTOCOL)
        pickler.fast = True
        pickler.dump(array)
        part = file.getvalue()[2:-1].replace(b"numpy._core.", b"numpy.core.", 1)
        self.write(part)  # type: ignore[attr-defined]
        self.memoize(array)  # type: ignore[attr-defined]

    dispatch[np.ndarray] = _save_array


def load_pickle(path: Path) -> Any:
    """Read a pickle of plain Python, numpy arrays and scalars, tensors, and mmdet3d's boxes.

    Raises:
        DataError: for anything else, naming it; nothing of it is run.
    """
    content = b""
    try:
        content = path.read_bytes()
        return _Reader(io.BytesIO(content)).load()
    except OSError as error:
        raise DataError([unreadable(path, _EXPECTED, error, "name another")]) from error
    except Exception as error:  # of any kind: the file holds any bytes
        got, remedy = other_kind(content) or (f"{error}", "")
        if content.startswith(b"\x80") or isinstance(error, _NotAllowedError):
            got, remedy = f"{error}", "save boxes, scores and names alone, as numpy arrays; never "
            remedy += "load it where you do not trust its origin"
        remedy = remedy or "name the file or folder that the detector wrote"
        raise DataError([Problem(path, None, _EXPECTED, got, remedy)]) from error


def dump_pickle(path: Path, content: Any) -> None:
    """Write what :func:`load_pickle` read, for numpy 1 and 2."""
    with path.open("wb") as file:
        _Writer(file, _PROTOCOL).dump(content)


def to_array(value: Any) -> NDArray[Any]:
    """Numbers of an array, a list, a tensor, or mmdet3d's boxes.

    Raises:
        ValueError: if it is none of these.
    """
    if not isinstance(value, Foreign):
        return np.asarray(value)
    if "tensor" in value.__dict__.get("state", {}):
        return to_array(value.__dict__["state"]["tensor"])
    name = type(value).__name__
    if name != "_rebuild_tensor_v2":
        raise ValueError(f"a {name} in place of a tensor")
    storage, offset, size, stride = value.args[:4]
    return _view(_storage(storage.args[0]), offset, size, stride)


def with_rows(value: Any, rows: NDArray[np.int64], new: NDArray[Any]) -> Any:
    """A copy of what :func:`to_array` takes, of the same kind and type, with other rows."""
    if not len(rows):
        return value
    if isinstance(value, list):
        copied = list(value)
        for row, numbers in zip(rows.tolist(), new.tolist(), strict=True):
            copied[row] = numbers
        return copied
    if not isinstance(value, Foreign):
        array = np.array(value)
        array[rows] = new
        return array
    made = object.__new__(type(value))
    made.__dict__.update(value.__dict__)
    if "tensor" in value.__dict__.get("state", {}):
        state = value.__dict__["state"]
        made.__dict__["state"] = {**state, "tensor": with_rows(state["tensor"], rows, new)}
        return made
    storage, offset, size, stride = value.args[:4]
    content = storage.args[0]
    numbers = _storage(content).copy()
    _view(numbers, offset, size, stride)[rows] = new
    other = type(storage)(content[: len(content) - numbers.nbytes] + numbers.tobytes())
    made.__dict__["args"] = (other, *value.args[1:])
    return made


def _storage(content: bytes) -> NDArray[Any]:
    """The numbers of a storage that torch saved: pickles, their number, and themselves."""
    file = io.BytesIO(content)
    for _ in range(3):  # of magic number, version and byte order
        _Reader(file).load()
    pid = _Reader(file).load()
    _Reader(file).load()  # the key of the storage
    kind = pid[1].__name__
    dtype = np.dtype(_STORAGES[kind])
    number = int.from_bytes(file.read(8), "little")
    if len(content) - file.tell() != number * dtype.itemsize:
        raise ValueError(f"a {kind} of {number} numbers that is cut off")
    return np.frombuffer(content, dtype, number, file.tell())


def _view(numbers: NDArray[Any], offset: int, size: Any, stride: Any) -> NDArray[Any]:
    """A tensor as a view of its storage."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min(size, default=1) == 0:
        return np.zeros(size, numbers.dtype)
    if min(offset, *size, *stride, 0) < 0 or last >= len(numbers):
        raise ValueError("a tensor beyond its storage")
    steps = [step * numbers.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(numbers[offset:], size, steps)
