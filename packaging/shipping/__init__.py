"""Makes what is installed: wheel, lock file, Debian packages, man pages, completions.  Called by make, from a checkout."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
"""The checkout."""
