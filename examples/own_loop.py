"""NLA's loss in a PyTorch loop of your own, on drawn faces.

python examples/own_loop.py
"""

from __future__ import annotations

import torch
from torch import nn

from nla import NLALoss
from nla.data.sources.synthetic import CLASSES, make_faces


def main(faces: int = 2000, epochs: int = 5, batch_size: int = 50) -> float:
    """Trains a small network; returns its accuracy on other faces."""
    torch.manual_seed(0)
    images, labels = as_tensors(faces, seed=0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 5, stride=2), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 10 * 10, len(CLASSES))),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    criterion = NLALoss("paper")
    for epoch in range(epochs):
        for index in torch.randperm(faces).split(batch_size):
            batch = images[index]
            loss = criterion(model(batch), model(batch.flip(-1)), labels[index], progress=epoch / epochs)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}/{epochs}: loss of the last batch {loss.item():.3f}")
    others, truth = as_tensors(400, seed=1)
    with torch.inference_mode():
        accuracy = (model.eval()(others).argmax(1) == truth).float().mean().item()
    print(f"accuracy on other faces: {accuracy:.1%}")
    return accuracy


def as_tensors(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Drawn faces as floats in 0..1, [N, 1, 48, 48], and their class indices [N]."""
    images_NHW, label_N = make_faces(count, seed)
    return torch.from_numpy(images_NHW)[:, None] / 255, torch.from_numpy(label_N)


if __name__ == "__main__":
    main()
