"""Hadir: who is here. A realtime presence server for two-sided marketplaces."""
