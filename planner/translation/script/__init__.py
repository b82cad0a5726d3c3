"""Python that somebody pasted: read with ``ast``, never run, every statement translated or told."""
