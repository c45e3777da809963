"""Bytes that peers send, hostile ones above all, as tables: one row per rule, with the clause that the rule comes from.

The rows know nothing of who reads them: unit tests feed them to the codecs (tests/protocol), scenarios to real sockets.
"""
