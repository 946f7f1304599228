"""Where arrays live and the memory step runs. `host` is the oracle that every other device is held against."""
