"""Coarser patches for a frozen transformer: layouts, resized projections, detail path, adapter."""
