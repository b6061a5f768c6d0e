"""Metrics of any two folders of pictures or films, whatever made them."""
