"""Many calls under one plan: rows of ``run`` arguments, one output each, resumed by what is on disk."""
