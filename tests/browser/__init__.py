"""The control centre's page, in a real browser."""
