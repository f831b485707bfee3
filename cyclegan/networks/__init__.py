"""Generators and discriminators: short names for import paths. Any import path serves as well."""

GENERATORS = {
    "resnet": "cyclegan.networks.resnet.ResnetGenerator",
    "attention": "cyclegan.networks.attention.AttentionResnet",
    "unet": "cyclegan.networks.unet.UnetGenerator",
    "edsr": "cyclegan.networks.superres.EDSRGenerator",
    "rrdb": "cyclegan.networks.rrdb.RRDBGenerator",
    "srcnn": "cyclegan.networks.srcnn.SRCNN",
    "vgg7": "cyclegan.networks.srcnn.VGG7",
    "dcscn": "cyclegan.networks.dcscn.DCSCN",
    "bicubic": "cyclegan.networks.bicubic.Bicubic",
}

DISCRIMINATORS = {
    "patch": "cyclegan.networks.patchgan.PatchDiscriminator",
    "pixel": "cyclegan.networks.patchgan.PixelDiscriminator",
    "multiscale": "cyclegan.networks.multiscale.MultiscaleDiscriminator",
    "unet": "cyclegan.networks.unet_discriminator.UnetDiscriminator",
    "batch_head": "cyclegan.networks.batch_head.BatchHeadDiscriminator",
}

# What discriminators see is augmented by (Zhao et al., 2020).
DIFFAUGMENTS = {
    "translation": "cyclegan.networks.diffaugment.Translation",
    "cutout": "cyclegan.networks.diffaugment.Cutout",
    "color": "cyclegan.networks.diffaugment.Color",
}
