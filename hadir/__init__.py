"""Hadir: the realtime presence server of a two-sided marketplace."""

__version__ = "0.1.0"
