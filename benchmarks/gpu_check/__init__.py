"""`make gpu-check`: the hardware suite and the benchmark on the GPU of this machine, with what is installed here, in under nine minutes.

Every part runs in a process of its own with a limit of its own: one that crashes, hangs or spoils its CUDA context leaves the others
alone, and what it measured until then is kept.
"""
