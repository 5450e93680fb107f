"""Dataclasses of tensors that share their first axis: they index, join and move like one tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from ebm3d.errors import input_error

Record = TypeVar("Record", bound="TensorRecord")


class TensorRecord:
    """Base of frozen dataclasses whose tensors (and records) have N rows each.

    Other fields (a period, a name) belong to all rows. The host's ``InstanceData`` takes such a
    record as a field of length N and selects its rows with the rest.
    """

    def __len__(self) -> int:
        return next(len(value) for _, value in self._columns())

    def __getitem__(self: Record, index: Any) -> Record:
        """Return the rows of a slice, a boolean mask ``(N,)`` or indices ``(K,)``."""
        return self._map(lambda value: value[index])

    @staticmethod
    def cat(records: Sequence[Record]) -> Record:
        """Concatenate records of one class.

        Raises:
            ValueError: for no record, records of several classes, or fields without rows that
                differ.
        """
        if not records:
            raise input_error("records", "at least one", "none")
        first = records[0]
        for index, record in enumerate(records):
            _check_same_kind(first, record, f"records[{index}]")
        joined: dict[str, Any] = {}
        for name, value in first._columns():
            parts = [getattr(record, name) for record in records]
            joined[name] = torch.cat(parts) if isinstance(value, Tensor) else value.cat(parts)
        return replace(first, **joined)  # type: ignore[type-var]

    def scatter(self: Record, index: Tensor, count: int) -> Record:
        """Return ``count`` rows: these at distinct ``index`` ``(N,)``, NaN elsewhere."""

        def place(value: Any) -> Any:
            if isinstance(value, TensorRecord):
                return value.scatter(index, count)
            return value.new_full((count, *value.shape[1:]), math.nan).index_copy(0, index, value)

        return self._map(place)

    def to(self: Record, *args: Any, **kwargs: Any) -> Record:
        """Return the record on a device or in a dtype, as ``Tensor.to``."""
        return self._map(lambda value: value.to(*args, **kwargs))

    def detach(self: Record) -> Record:
        """Return the record without its graph."""
        return self._map(lambda value: value.detach())

    def _columns(self) -> list[tuple[str, Any]]:
        """Name and value of every field with rows."""
        named = [(f.name, getattr(self, f.name)) for f in fields(self)]  # type: ignore[arg-type]
        return [(name, v) for name, v in named if isinstance(v, Tensor | TensorRecord)]

    def _map(self: Record, change: Any) -> Record:
        """Apply a function to every field with rows."""
        changed = {name: change(value) for name, value in self._columns()}
        return replace(self, **changed)  # type: ignore[type-var]


def _check_same_kind(first: TensorRecord, record: TensorRecord, name: str) -> None:
    """Raise unless a record can be joined to the first one; records inside join by themselves."""
    if type(record) is not type(first):
        raise input_error(name, f"a {type(first).__name__} as records[0]", type(record).__name__)
    with_rows = {column for column, _ in first._columns()}
    for field in fields(first):  # type: ignore[arg-type]
        expected, got = getattr(first, field.name), getattr(record, field.name)
        if field.name not in with_rows and expected != got:
            raise input_error(f"{name}.{field.name}", f"{expected} as in records[0]", got)
