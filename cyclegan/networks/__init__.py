"""Generators and discriminators. Tables give their short names; any import path serves as well."""

GENERATORS = {
    "resnet": "cyclegan.networks.generators.resnet.ResnetGenerator",
    "attention": "cyclegan.networks.generators.attention.AttentionResnet",
    "unet": "cyclegan.networks.generators.unet.UnetGenerator",
    "edsr": "cyclegan.networks.generators.edsr.EDSRGenerator",
    "rrdb": "cyclegan.networks.generators.rrdb.RRDBGenerator",
    "srcnn": "cyclegan.networks.generators.srcnn.SRCNN",
    "vgg7": "cyclegan.networks.generators.srcnn.VGG7",
    "dcscn": "cyclegan.networks.generators.dcscn.DCSCN",
    "bicubic": "cyclegan.networks.generators.bicubic.Bicubic",
}

DISCRIMINATORS = {
    "patch": "cyclegan.networks.discriminators.patchgan.PatchDiscriminator",
    "pixel": "cyclegan.networks.discriminators.patchgan.PixelDiscriminator",
    "multiscale": "cyclegan.networks.discriminators.patchgan.MultiscaleDiscriminator",
    "unet": "cyclegan.networks.discriminators.unet_discriminator.UnetDiscriminator",
    "batch_head": "cyclegan.networks.discriminators.batch_head.BatchHeadDiscriminator",
}

# Augmentations of all images that discriminators see (Zhao et al., 2020).
DIFFAUGMENTS = {
    "translation": "cyclegan.networks.diffaugment.RandomTranslation",
    "cutout": "cyclegan.networks.diffaugment.RandomCutout",
    "color": "cyclegan.networks.diffaugment.RandomColor",
}
