"""The small models that ship with the package: how they are built and trained."""
