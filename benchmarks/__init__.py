"""Measurements; each prints its figures. Not part of the server."""
