"""Every operation, every line of ours and every forward fails once, and what must hold afterwards is checked.

``pytest tests/faults`` runs a seeded sample, ``python -m tests.faults --count 50000`` as many as there are,
and ``python -m tests.faults --replay KEY`` one.
"""
