"""Metrics of single pictures, one a file."""
