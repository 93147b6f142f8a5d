"""Run by Python in every child of the suite before its own program: the child is heard too."""

import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[4])
sys.path.insert(0, _ROOT)
try:
    from tests.support import leaks
finally:
    sys.path.remove(_ROOT)
leaks.join()
