"""Who is online: values above (no clock, no I/O), shells below."""
