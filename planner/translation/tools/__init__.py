"""Other tools' settings (diffusers' own offload methods, accelerate, mmgp, servers): what each takes, and the
plan nearest to it."""
