"""The version of the distribution, where every layer can read it."""

VERSION = "0.1.0"
HOME = "https://github.com/offload-planner/offload-planner"
