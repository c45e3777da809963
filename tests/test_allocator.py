"""What malloc does with memory that was freed."""

import subprocess
import sys

COUNT = """
import resource, sys
from emperor.allocator import keep_freed
kept = sys.argv[1] == "kept" and keep_freed(4 << 20)
if sys.argv[1] == "kept" and not kept:
    sys.exit(77)
for number in range(1000):
    if number == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [b"x" * 256_000 for _ in range(4)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_large_blocks_come_back_without_the_kernel() -> None:
    """A thousand times four blocks of 63 pages each; without it (glibc 2.36) some 250,000 pages are cleared."""
    kept = faults("kept")
    assert kept < 1000
    assert faults("default") > 20 * kept + 1000


GAPS = """
import ctypes, sys
from emperor.allocator import use_up
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
blocks = [libc.malloc(600 + number % 4000) for number in range(4000)]
for block in blocks[::2]:
    libc.free(block)
taken = use_up() if sys.argv[1] == "used up" else 0
after = [libc.malloc(600 + number % 4000) for number in range(200)]
print(taken, sum(block < max(blocks) for block in after))
"""


def test_what_is_made_after_gaps_were_used_up_lies_behind_them() -> None:
    def play(how: str) -> tuple[int, int]:
        done = subprocess.run([sys.executable, "-c", GAPS, how], capture_output=True, text=True, check=True)
        taken, in_gaps = done.stdout.split()
        return int(taken), int(in_gaps)

    assert play("left")[1] > 100
    taken, in_gaps = play("used up")
    assert taken > 2_000_000
    assert in_gaps < 10
