"""Promised beside measured."""
