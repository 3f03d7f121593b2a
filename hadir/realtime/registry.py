"""The mitra sockets of this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from hadir import metrics

if TYPE_CHECKING:
    from hadir.realtime.connection import Connection


class Registry:
    """Connections by mitra. Usually one each; two while one displaces the other."""

    def __init__(self) -> None:
        self._by_mitra: dict[str, tuple[Connection, ...]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Connection]:
        for held in list(self._by_mitra.values()):
            yield from held

    def add(self, connection: Connection) -> None:
        self._by_mitra[connection.mitra_id] = (*self.of(connection.mitra_id), connection)
        self._counted(+1)

    def remove(self, connection: Connection) -> None:
        held = self.of(connection.mitra_id)
        left = tuple(other for other in held if other is not connection)
        if left:
            self._by_mitra[connection.mitra_id] = left
        else:
            self._by_mitra.pop(connection.mitra_id, None)
        self._counted(len(left) - len(held))

    def of(self, mitra_id: str) -> Sequence[Connection]:
        return self._by_mitra.get(mitra_id, ())

    def held(self, mitra_ids: Iterable[str]) -> list[str]:
        """Those of the ids that have a socket here."""
        return [mitra_id for mitra_id in mitra_ids if mitra_id in self._by_mitra]

    def _counted(self, step: int) -> None:
        self._count += step
        metrics.CONNECTIONS.labels("mitra").set(self._count)
