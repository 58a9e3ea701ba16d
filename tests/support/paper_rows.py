"""The rows on which the released codes of the SimCSE family were run; see the tests of each objective for what came out."""

import torch

TAU = 0.05
Z1 = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 1]], dtype=torch.float64)
Z2 = torch.tensor([[0.9, 0.1, 0], [0.2, 0.8, 0.1], [1, 0.5, 1]], dtype=torch.float64)
Z3 = torch.tensor([[0.5, 0.5, 0], [0, 0.5, 0.5], [1, -1, 0]], dtype=torch.float64)
