"""The command lines of pytorch-CycleGAN-and-pix2pix, the classic implementation."""
