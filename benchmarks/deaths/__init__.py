"""How soon the dead are noticed, by the way they went, and that nobody else is taken for dead.

    hadir bench deaths                          every kind, default settings and fast ones: writes docs/reliability.md
    hadir bench deaths --profile fast --kinds reset,frozen,killed

Each rig has its own PostgreSQL, Valkey and three instances, 1,000 mitras that live and some that die. Rigs run side by
side, each in a process of its own; what a rig found is kept in `.data/deaths`, so a run that was interrupted goes on.
Exit code 1: somebody alive was taken offline, a figure is beyond its bound, or the stores differ at the end.
"""
