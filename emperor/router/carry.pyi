def carry(source: int, target: int, most: int) -> tuple[int, int, int]:
    """Bytes from a socket to a file, at most so many and for 20 ms, as long as they come: it waits for 2 ms in
    all. Returns how many are in the file, why it ended (``spool.MORE`` …), and the errno of that."""
