"""Makes the catalogue: reads the installed diffusers and writes what the planner knows of it."""
