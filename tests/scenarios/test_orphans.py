"""What the harness does after a test that failed: the next one starts from nothing."""

import subprocess

from .harness import Orphans


def test_pipes_of_a_client_that_nobody_ended_are_closed() -> None:
    """Left to the garbage collector they would warn within a later test, which fails for it."""
    orphans = Orphans()
    orphans.start()
    child = orphans.popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(b"what it was never sent")
    orphans.close()
    assert child.stdin.closed and child.stdout.closed
