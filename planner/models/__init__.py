"""Well-known models by their hub ids: how large their components are, and what their calls take. No torch.

``facts.yaml`` says which; ``python -m planner.tracing.predictions`` makes ``data`` of it.
"""
