"""The classic training step, written plainly: the baseline of benchmarks/step.py.

Eager float32, separate passes, torch's instance norm, Adam with one kernel after another for every
tensor, and an image pool that draws random numbers on the host.
"""

import random

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
            nn.ReLU(True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class Generator(nn.Module):
    """ResNet-9 (Zhu et al., 2017)."""

    def __init__(self, width: int = 64, blocks: int = 9) -> None:
        super().__init__()
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7)]
        layers += [nn.InstanceNorm2d(width), nn.ReLU(True)]
        for _ in range(2):
            layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)]
            layers += [nn.InstanceNorm2d(2 * width), nn.ReLU(True)]
            width *= 2
        layers += [Residual(width) for _ in range(blocks)]
        for _ in range(2):
            half = width // 2
            layers += [nn.ConvTranspose2d(width, half, 3, stride=2, padding=1, output_padding=1)]
            layers += [nn.InstanceNorm2d(half), nn.ReLU(True)]
            width = half
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class Discriminator(nn.Module):
    """70x70 PatchGAN."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, True)]
        for stride in (2, 2, 1):
            layers += [nn.Conv2d(width, 2 * width, 4, stride=stride, padding=1)]
            layers += [nn.InstanceNorm2d(2 * width), nn.LeakyReLU(0.2, True)]
            width *= 2
        layers += [nn.Conv2d(width, 1, 4, padding=1)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class Pool:
    def __init__(self, size: int) -> None:
        self.size = size
        self.images: list[Tensor] = []

    def query(self, images: Tensor) -> Tensor:
        shown = []
        for image in images:
            image = image.detach().unsqueeze(0)
            if len(self.images) < self.size:
                self.images.append(image)
                shown.append(image)
            elif random.uniform(0, 1) > 0.5:
                slot = random.randint(0, self.size - 1)
                shown.append(self.images[slot].clone())
                self.images[slot] = image
            else:
                shown.append(image)
        return torch.cat(shown)


class PlainStep:
    """Both generators, both discriminators, and their training step."""

    def __init__(self, *, width: int = 64, pool_size: int = 50, lr: float = 2e-4) -> None:
        self.G_AB, self.G_BA = Generator(width), Generator(width)
        self.D_A, self.D_B = Discriminator(width), Discriminator(width)
        self.pool_A, self.pool_B = Pool(pool_size), Pool(pool_size)
        self.mse, self.l1 = nn.MSELoss(), nn.L1Loss()
        self.lr = lr

    def networks(self) -> dict[str, nn.Module]:
        return {"G_AB": self.G_AB, "G_BA": self.G_BA, "D_A": self.D_A, "D_B": self.D_B}

    def prepare(self) -> None:
        """Makes the optimizers, after the weights have been moved to their device."""
        self.adam_G = self._adam(self.G_AB, self.G_BA)
        self.adam_D = self._adam(self.D_A, self.D_B)

    def step(self, real_A: Tensor, real_B: Tensor) -> dict[str, Tensor]:
        fake_B = self.G_AB(real_A)
        rec_A = self.G_BA(fake_B)
        fake_A = self.G_BA(real_B)
        rec_B = self.G_AB(fake_A)

        self._train_discriminators(False)
        self.adam_G.zero_grad()
        losses = {
            "identity_B": self.l1(self.G_AB(real_B), real_B) * 5,
            "identity_A": self.l1(self.G_BA(real_A), real_A) * 5,
            "adversarial_B": self._gan_loss(self.D_B(fake_B), 1.0),
            "adversarial_A": self._gan_loss(self.D_A(fake_A), 1.0),
            "cycle_A": self.l1(rec_A, real_A) * 10,
            "cycle_B": self.l1(rec_B, real_B) * 10,
        }
        sum(losses.values()).backward()
        self.adam_G.step()

        self._train_discriminators(True)
        self.adam_D.zero_grad()
        losses["D_A"] = self._update(self.D_A, real_A, self.pool_A.query(fake_A))
        losses["D_B"] = self._update(self.D_B, real_B, self.pool_B.query(fake_B))
        self.adam_D.step()
        return losses

    def _update(self, network: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        loss_real = self._gan_loss(network(real), 1.0)
        loss_fake = self._gan_loss(network(fake), 0.0)
        loss = (loss_real + loss_fake) * 0.5
        loss.backward()
        return loss

    def _gan_loss(self, logits: Tensor, label: float) -> Tensor:
        return self.mse(logits, torch.full((), label).to(logits).expand_as(logits))

    def _adam(self, *networks: nn.Module) -> torch.optim.Adam:
        parameters = [p for network in networks for p in network.parameters()]
        return torch.optim.Adam(parameters, lr=self.lr, betas=(0.5, 0.999), foreach=False)

    def _train_discriminators(self, train: bool) -> None:
        for network in (self.D_A, self.D_B):
            network.requires_grad_(train)
