"""The sockets of this process, of one kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from hadir import metrics
from hadir.realtime.peer import Peer

P = TypeVar("P", bound=Peer)


class Registry(Generic[P]):
    """Sockets by whose they are. A mitra usually has one, two while one displaces the other; a customer some."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._by_subject: dict[str, tuple[P, ...]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[P]:
        for held in list(self._by_subject.values()):
            yield from held

    def add(self, peer: P) -> None:
        self._by_subject[peer.subject_id] = (*self.of(peer.subject_id), peer)
        self._counted(+1)

    def remove(self, peer: P) -> None:
        held = self.of(peer.subject_id)
        left = tuple(other for other in held if other is not peer)
        if left:
            self._by_subject[peer.subject_id] = left
        else:
            self._by_subject.pop(peer.subject_id, None)
        self._counted(len(left) - len(held))

    def of(self, subject_id: str) -> Sequence[P]:
        return self._by_subject.get(subject_id, ())

    def held(self, subject_ids: Iterable[str]) -> list[str]:
        """Those of the ids that have a socket here."""
        return [subject_id for subject_id in subject_ids if subject_id in self._by_subject]

    def _counted(self, step: int) -> None:
        self._count += step
        metrics.CONNECTIONS.labels(self._kind).set(self._count)
