"""Losses: short names for import paths. Any import path serves as well.

An image loss is any callable loss(input, target) -> scalar, so every pair loss of torch.nn is one.
An adversarial loss has generator(D, fake, real) and discriminator(D, fake, real).
"""

IMAGE_LOSSES = {
    "l1": "torch.nn.L1Loss",
    "l2": "torch.nn.MSELoss",
    "color": "cyclegan.losses.frequency.LowFrequency",
}

ADVERSARIAL_LOSSES = {
    "lsgan": "cyclegan.losses.adversarial.LeastSquares",
    "vanilla": "cyclegan.losses.adversarial.CrossEntropy",
}
