"""A pipeline's call traced on tensors without data: what each use allocates and computes on a GPU."""
