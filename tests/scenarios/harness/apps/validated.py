"""The app that $INNER names (`module` or `module:object`, beside this file), under `wsgiref.validate`, which fails an app that
breaks a rule of PEP 3333, and a server that does."""

import importlib
import os
from wsgiref.validate import validator

module, _, name = os.environ["INNER"].partition(":")
application = validator(getattr(importlib.import_module(module), name or "application"))
