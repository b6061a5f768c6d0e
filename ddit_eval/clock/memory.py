"""Peak resident memory of this process, as Linux keeps it."""

from __future__ import annotations

from pathlib import Path

_PROCESS = Path("/proc/self")


def reset_peak() -> bool:
    """Start the peak anew from what is resident now; whether the system can."""
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:
        return False
    return peak() is not None


def peak() -> int | None:
    """Most bytes resident since the last `reset_peak`; None where the system does not tell."""
    try:
        lines = (_PROCESS / "status").read_text().splitlines()
    except OSError:
        return None
    found = next((line.split() for line in lines if line.startswith("VmHWM:")), None)
    return None if found is None else 1024 * int(found[1])
