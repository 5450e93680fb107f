"""Records of tensors that share their first axis: they index, join and move like one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

Record = TypeVar("Record", bound="TensorRecord")


class TensorRecord:
    """Base of frozen dataclasses whose tensors (and records) have N rows each.

    Fields that are neither tensors nor records (a period, a name) belong to all rows. The host's
    ``InstanceData`` takes such a record as a field of length N and selects its rows with the rest.
    """

    def __len__(self) -> int:
        """Return N."""
        return next(len(value) for _, value in self._columns())

    def __getitem__(self: Record, index: Any) -> Record:
        """Return the chosen rows.

        Args:
            index: a slice, a boolean mask ``(N,)`` or indices ``(K,)``, as for a tensor.
        """
        return self._map(lambda value: value[index])

    @staticmethod
    def cat(records: Sequence[Record]) -> Record:
        """Join records of one kind, row after row.

        Args:
            records: at least one; fields that are no tensors are taken from the first.
        """
        first = records[0]
        joined: dict[str, Any] = {}
        for name, value in first._columns():
            parts = [getattr(record, name) for record in records]
            joined[name] = torch.cat(parts) if isinstance(value, Tensor) else value.cat(parts)
        return replace(first, **joined)  # type: ignore[type-var]

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
