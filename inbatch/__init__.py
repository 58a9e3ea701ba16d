"""inbatch: contrastive text embeddings with exact, memory-free in-batch negatives.

The folders ``models``, ``losses``, ``kernels``, ``data`` and ``experiments`` at the root of the repository are the sub-packages
``inbatch.models`` and so on, through links in this folder. Nothing heavy is imported here.
"""

__version__ = "0.1.0"
