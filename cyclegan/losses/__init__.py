"""Losses. Tables give their short names; any import path serves as well.

An image loss is any callable loss(input, target) -> scalar, so every pair loss of torch.nn is one.
An adversarial loss has generator(D, fake, real) and discriminator(D, fake, real).
A penalty is a callable penalty(D, fake, real) -> scalar, due every `every` steps.
A contrastive loss compares what generators' encoders make of a source and its translation.
"""

IMAGE_LOSSES = {
    "l1": "torch.nn.L1Loss",
    "l2": "torch.nn.MSELoss",
    "charbonnier": "cyclegan.losses.pixel.Charbonnier",
    "huber": "torch.nn.HuberLoss",
    "gradient": "cyclegan.losses.pixel.Gradient",
    "tv": "cyclegan.losses.pixel.TotalVariation",
    "ssim": "cyclegan.losses.structural.SSIM",
    "ms_ssim": "cyclegan.losses.structural.MultiscaleSSIM",
    "color": "cyclegan.losses.frequency.LowFrequency",
    "fft": "cyclegan.losses.frequency.FocalFrequency",
    "wavelet": "cyclegan.losses.frequency.Wavelet",
    "laplacian_pyramid": "cyclegan.losses.frequency.LaplacianPyramid",
    "vgg": "cyclegan.losses.perceptual.VGG",
    "lpips": "cyclegan.losses.perceptual.LPIPS",
}

ADVERSARIAL_LOSSES = {
    "lsgan": "cyclegan.losses.adversarial.LeastSquares",
    "vanilla": "cyclegan.losses.adversarial.CrossEntropy",
    "nonsaturating": "cyclegan.losses.adversarial.NonSaturating",
    "hinge": "cyclegan.losses.adversarial.Hinge",
    "wgan": "cyclegan.losses.adversarial.Wasserstein",
    "relativistic": "cyclegan.losses.adversarial.Relativistic",
    "ralsgan": "cyclegan.losses.adversarial.RelativisticAverageLeastSquares",
}

PENALTIES = {
    "gradient_penalty": "cyclegan.losses.penalties.GradientPenalty",
    "zero_centered": "cyclegan.losses.penalties.ZeroCentered",
    "r1": "cyclegan.losses.penalties.R1",
    "r2": "cyclegan.losses.penalties.R2",
}

CONTRASTIVE_LOSSES = {
    "patch_nce": "cyclegan.losses.contrastive.PatchNCE",
}
