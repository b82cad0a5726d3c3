"""Well-known models fitted to usual cards: plans in ``plans/cookbook``, and the page that lists them."""
