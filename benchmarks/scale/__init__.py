"""What 10,000, 100,000 and a million mitras cost: stores, instance, seed, start, counts, a minute; docs/scaling.md.

    hadir bench scale --rows 10000

Real stores and one `hadir serve`. Sockets are real up to what a process holds; for the rest of the mitras this process
sends the beats of made-up instances by the code that instances send theirs with. Nine of ten mitras are online.
"""
