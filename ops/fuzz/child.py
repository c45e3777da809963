"""One codec's inputs, in a process that may die of them. Started by run.py, which watches the slot.

``child.py TABLE CODEC ENGINE SLOT SEED FIRST COUNT FOUND CORPUS``: numbers FIRST+1 … FIRST+COUNT. Writes one JSON line per
measurement and one per failure to its standard output. ``child.py TABLE CODEC --file FILE`` runs one saved input.
"""

import ctypes
import gc
import hashlib
import importlib
import json
import mmap
import os
import struct
import sys
import time
import traceback
from pathlib import Path

MOST_FAILURES = 20
MEASUREMENTS = 20
SLOT_HEADER = struct.Struct("<QQQ")
"""Number, size and bits of the input in the slot, in front of its bytes."""


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def load(path: Path) -> tuple[bytes, int]:
    """A saved input and its bits."""
    saved = path.read_bytes()
    return saved[4:], int.from_bytes(saved[:4], "little")


def save(directory: Path, codec: str, data: bytes, bits: int) -> str:
    """One file per input: 4 bytes of bits, then the input. Tests run every file of tests/wire/found again."""
    place = directory / codec
    place.mkdir(parents=True, exist_ok=True)
    path = place / hashlib.sha256(data).hexdigest()[:12]
    path.write_bytes(struct.pack("<I", bits) + data)
    return str(path)


def main(argv: list[str]) -> int:
    # Before the codecs: a build for coverage looks its calls up when it is loaded.
    engine = ctypes.CDLL(argv[2], mode=ctypes.RTLD_GLOBAL) if argv[2] != "--file" else None

    import emperor.protocol.http1

    codec = importlib.import_module(argv[0]).BY_NAME[argv[1]]
    run, refusals = codec.make(), codec.refusals
    if engine is None:
        try:
            print("accepted" if run(*load(Path(argv[3]))) else "not accepted")
        except refusals as error:
            print(f"refused: {error!r}")
        return 0

    slot_path, seed, first, count = argv[3], int(argv[4]), int(argv[5]), int(argv[6])
    found, corpus = Path(argv[7]), Path(argv[8])
    engine.engine_edges.restype = engine.engine_pool_bytes.restype = ctypes.c_uint64
    engine.engine_next.restype = ctypes.c_uint32
    engine.engine_open.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    size_bytes = SLOT_HEADER.size + engine.engine_limit()
    with open(slot_path, "r+b") as file:
        slot = mmap.mmap(file.fileno(), size_bytes)
    page = (ctypes.c_char * size_bytes).from_buffer(slot)
    # Another stretch of the same run draws other inputs.
    engine.engine_open(ctypes.addressof(page), seed * 1_000_003 + first)
    for given in codec.seeds():
        engine.engine_add(given, len(given))
    kept = corpus / codec.name
    if kept.is_dir():
        for path in sorted(kept.iterdir()):
            given = path.read_bytes()
            engine.engine_add(given, len(given))
    for word in codec.words:
        engine.engine_word(word, len(word))

    say(kind="start", module=emperor.protocol.http1.__file__)
    draw, edges_of = engine.engine_next, engine.engine_edges
    header, start = SLOT_HEADER, SLOT_HEADER.size
    accepted = refused = failures = 0
    edges = 0
    seen: set[object] = set()
    began = time.monotonic()
    due = every = max(1, count // MEASUREMENTS)
    done = 0
    while done < count:
        bits = draw()
        data = slot[start : start + header.unpack_from(slot)[1]]
        done += 1
        try:
            if run(data, bits):
                accepted += 1
        except refusals:
            refused += 1
        except Exception as error:
            # One place in the code is one failure, however many inputs lead to it.
            place = traceback.extract_tb(error.__traceback__)[-1]
            key = (type(error), place.filename, place.lineno, str(error)[:30])
            if key not in seen:
                seen.add(key)
                failures += 1
                where = save(found, codec.name, data, bits)
                trace = "".join(traceback.format_exception(error))[-3000:]
                say(kind="failure", number=first + done, file=where, error=repr(error)[:500], trace=trace)
        if edges != edges_of():
            edges = edges_of()
            engine.engine_add(data, len(data))
            if os.path.isdir(corpus):
                kept.mkdir(exist_ok=True)
                (kept / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        if done >= due or failures >= MOST_FAILURES:
            due += every
            gc.collect()
            say(
                kind="measure",
                number=first + done,
                seconds=time.monotonic() - began,
                accepted=accepted,
                refused=refused,
                rss=rss_bytes() - engine.engine_pool_bytes(),
                blocks=sys.getallocatedblocks(),
                edges=edges,
            )
            if failures >= MOST_FAILURES:
                break
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
