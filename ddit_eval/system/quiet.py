"""Libraries that keep to themselves."""

from __future__ import annotations


def quiet_libraries() -> None:
    """No progress bars and no advice from the libraries underneath."""
    import diffusers.utils.logging

    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    quiet_transformers()


def quiet_transformers() -> None:
    """The same of what metrics use: diffusers takes seconds to import."""
    import transformers.utils.logging

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
