"""Input that nobody trusts: what reads it may refuse it, and nothing else.

    making     bytes to begin with: sound ones damaged, ones made up; and what a target is
    trees      changes of what a value says
    values     what stands in records: values in every codec, headers
    logs       whole logs of records, through the engine
    files      what stands in artifacts, checkpoint stores, registries and committed offsets
    guided     one target, by the hundred thousand, led by what code an input reaches: atheris

`tests/security/test_fuzz.py` draws some hundred inputs for each target in CI; `make fuzz` is the long run.
"""
