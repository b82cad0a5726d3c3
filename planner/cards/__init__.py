"""Cards as data: what each holds, how fast it is, which kernels run on it. No torch."""
