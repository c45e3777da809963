"""Builds the compiled floor; everything else is in pyproject.toml.

Compiled are every ``.pyx`` and every ``.py`` that has an augmenting ``.pxd`` beside it
(docs/decisions/0008-compiled-hot-path.md).
"""

import hashlib
import os
from pathlib import Path

import Cython
from Cython.Build import cythonize
from setuptools import Extension, setup

HERE = Path(__file__).parent
SOURCES = sorted(
    source
    for package in ("emperor", "vassals")
    for shape in ("*.pyx", "*.pxd")
    for path in (HERE / package).rglob(shape)
    for source in (path.with_suffix(".pyx"), path.with_suffix(".py"))
    if source.exists()
)
MODULES = [path.relative_to(HERE) for path in dict.fromkeys(SOURCES)]
# Cython compares the times of sources; a change of directives or of Cython itself would go unnoticed.
RECIPE = hashlib.sha256(Path(__file__).read_bytes() + Cython.__version__.encode()).hexdigest()[:12]
JOBS = len(os.sched_getaffinity(0))

setup(
    ext_modules=cythonize(
        [
            Extension(".".join(path.with_suffix("").parts), [str(path)], extra_compile_args=["-O2"])
            for path in MODULES
        ],
        language_level=3,
        # Types come from the .pxd files alone: an annotation is for mypy, and may be wider than what C could hold.
        compiler_directives={
            "annotation_typing": False,
            "embedsignature": True,
            # Without it, an attribute of None where a compiled type is expected would end the process.
            "nonecheck": True,
        },
        build_dir=f"build/cython-{RECIPE}",
        nthreads=JOBS,
    ),
    options={"build_ext": {"parallel": JOBS}},
)
