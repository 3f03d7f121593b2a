"""Every Valkey name, once. The first five are the seed's, byte for byte: other programs read them."""

from __future__ import annotations


class Keys:
    """Key names, all under `{tag}` where a hash tag is configured (Valkey Cluster)."""

    def __init__(self, hash_tag: str = "") -> None:
        prefix = f"{{{hash_tag}}}" if hash_tag else ""
        self.online = f"{prefix}mitras:online"
        self.deactivated = f"{prefix}mitras:deactivated"
        self._capacity = f"{prefix}mitra:capacity:"
        self._heartbeat = f"{prefix}mitra:heartbeat:"
        self.snapshot = f"{prefix}availability:snapshot"
        self.heartbeats = f"{prefix}mitras:heartbeats"
        self.available = f"{prefix}mitras:available"
        self.queue = f"{prefix}mitras:queue"
        self.versions = f"{prefix}mitras:versions"
        self.connections = f"{prefix}mitras:connections"
        self.seeded = f"{prefix}mirror:seeded"
        self.seed_lease = f"{prefix}mirror:lease:seed"
        self._instance = f"{prefix}instance:"
        self.events_channel = f"{prefix}hadir:events"
        self._instance_channel = f"{prefix}hadir:instance:"

    def capacity(self, mitra_id: str) -> str:
        return self._capacity + mitra_id

    def heartbeat(self, mitra_id: str) -> str:
        return self._heartbeat + mitra_id

    def instance(self, instance_id: str) -> str:
        return self._instance + instance_id

    def instance_channel(self, instance_id: str) -> str:
        return self._instance_channel + instance_id

    @property
    def sets_of_ids(self) -> tuple[str, ...]:
        """The keys whose members (or fields) are mitra ids."""
        return (
            self.online,
            self.deactivated,
            self.heartbeats,
            self.available,
            self.queue,
            self.versions,
            self.connections,
        )
