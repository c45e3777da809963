"""`python -m vassals`: a gateway in a fresh interpreter, for a vassal that cannot be forked from the
spawner."""

import contextlib

from vassals import atfork, spawner
from vassals.gateway.main import run_gateway

if __name__ == "__main__":
    atfork.hold()
    # Its workers share these pages at least with each other. What cannot be imported is reported by the
    # first worker.
    with contextlib.suppress(ImportError):
        spawner.warm()
    run_gateway()
