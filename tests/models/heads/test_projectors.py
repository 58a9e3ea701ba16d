"""DiffCSE's projector: the released code's numbers."""

import torch

from inbatch.models.heads.projectors import BatchNormProjector

TABLE = [[-0.946760, -1.705841], [-0.946760, 0.709914], [0.491527, 0.709914], [1.401992, 0.286013]]


def test_equals_the_released_code_to_six_digits():
    projector = BatchNormProjector(2).double()
    with torch.no_grad():
        projector.layers[0].weight.copy_(torch.tensor([[1.0, 0], [0, 1], [1, 1], [1, -1]]))
        projector.layers[3].weight.copy_(torch.tensor([[1, 0, 0.5, 0], [0, 1, 0, 0.5]]))
    found = projector(torch.tensor([[1.0, 0], [0, 1], [1, 1], [2, -1]], dtype=torch.float64))
    assert torch.allclose(found, torch.tensor(TABLE, dtype=torch.float64), atol=5e-7)


def test_its_linear_layers_are_drawn_as_released():
    projector = BatchNormProjector(256)
    assert abs(projector.layers[0].weight.std() - 0.02) < 1e-3
    assert projector.layers[0].bias is None
    assert projector.layers[4].weight is None


def test_half_precision_weights_take_float32_vectors():
    assert BatchNormProjector(4).to(torch.bfloat16)(torch.randn(3, 4)).dtype == torch.bfloat16
