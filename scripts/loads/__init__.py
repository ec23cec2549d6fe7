"""The parts of `scripts/load.py`. They use nothing but Python's library, uvloop where there is one,
and jsonschema for the report."""
