"""What a socket, a beat, a connect and an answer of the beacon cost, beside other servers in the same run.

    make bench                                        # all of it, fifty minutes
    make bench ARGS="--repeat 1 --only Hadir storm"   # a part; nothing is written unless --write
    make bench-quick                                  # two minutes, against a bare protocol; fails on the loss of half

The server has one core, the load and the stores have the other; CPU is the server process's user and system time, which
a busy machine hardly changes. A figure is the median of the repeats.
"""
