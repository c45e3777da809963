"""Builds the compiled floor (``emperor/protocol/*.pyx``); everything else is in pyproject.toml."""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

HERE = Path(__file__).parent
MODULES = sorted(path.relative_to(HERE) for path in (HERE / "emperor" / "protocol").glob("*.pyx"))

setup(
    ext_modules=cythonize(
        [
            Extension(".".join(path.with_suffix("").parts), [str(path)], extra_compile_args=["-O2"])
            for path in MODULES
        ],
        language_level=3,
        compiler_directives={"boundscheck": False, "wraparound": False, "embedsignature": True},
        build_dir="build/cython",
    ),
)
