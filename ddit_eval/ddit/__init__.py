"""The method: all that decides a picture."""
