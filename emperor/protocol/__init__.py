"""Bytes in, values out: the codecs and the shared page. No socket, clock, process or thread is imported here.

What is hot is compiled by Cython (``*.pyx`` with a ``*.pyi`` beside it); there is no second implementation in Python.
"""
