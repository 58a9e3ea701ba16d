"""The operator's Triton kernels: tiles, their launch, the problem they solve, and the passes over it.

May import `inbatch.kernels.infonce.candidates` and `checking`.
"""
