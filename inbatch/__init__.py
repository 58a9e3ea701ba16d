"""inbatch: contrastive text embeddings with exact, memory-free in-batch negatives.

The folders ``models``, ``losses``, ``kernels``, ``data`` and ``experiments`` at the root of the repository are the sub-packages
``inbatch.models`` and so on. Nothing heavy is imported here.
"""

from pathlib import Path as _Path

__version__ = "0.1.0"

# In a checkout the sub-packages lie beside this folder, not in it. Naming the root here keeps one version of everything together
# also when the checkout stands on sys.path in front of an installed copy.
_root = _Path(__file__).resolve().parent.parent
if (_root / "kernels" / "operators.py").is_file() and str(_root) not in __path__:
    __path__.append(str(_root))
