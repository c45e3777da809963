"""`python -m vassals`: a gateway in a fresh interpreter, for a vassal that cannot be forked from the
spawner."""

from vassals.gateway.main import run_gateway

if __name__ == "__main__":
    run_gateway()
