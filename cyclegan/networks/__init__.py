"""Generators and discriminators: short names for import paths. Any import path serves as well."""

GENERATORS = {
    "resnet": "cyclegan.networks.resnet.ResnetGenerator",
    "edsr": "cyclegan.networks.superres.EDSRGenerator",
}

DISCRIMINATORS = {
    "patch": "cyclegan.networks.patchgan.PatchDiscriminator",
}
