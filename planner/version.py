"""The version of the distribution, where every layer can read it."""

VERSION = "0.1.0"
