"""Imports what the scripts of `examples/` import; `helpers.warm_python` forks from a process that has done so."""

from helpers.example_scripts import main_of

for name in ("cotrain", "inspect_data", "evaluate"):
    main_of(name)
