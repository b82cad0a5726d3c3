"""The documentation: pages that are written (``*.md`` here), pages that are made of the code, the site."""
