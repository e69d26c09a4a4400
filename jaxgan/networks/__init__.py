"""Generators and discriminators, as Flax modules: one file for each system or family.

A generator is called as gen(z [B, z_size], labels, context) and gives images [B, H, W, C] in the range of its last
activation; a discriminator is called as disc(images [B, H, W, C], labels, context) and gives logits [B]. `labels` are
int32 [B], or None where the GAN has no classes; `context` is a `jaxgan.networks.layers.Context`.

A generator without a dense layer takes a grid of latents too, [B, h, w, z_size], and makes one large image of it.
"""

from jaxgan.networks.canton_lsgan import CantonLSGANDisc, CantonLSGANGen
from jaxgan.networks.digits import DenseDigitsDisc, DenseDigitsGen, DigitsDisc, DigitsGen
from jaxgan.networks.gan_elements import GANElementsDisc, GANElementsGen
from jaxgan.networks.keras_dcgan import KerasDCGANDisc, KerasDCGANGen
from jaxgan.networks.keras_mnist import KerasMNISTDisc, KerasMNISTGen
from jaxgan.networks.layers import Context
from jaxgan.networks.plain import PlainDisc, PlainGen
from jaxgan.networks.points import DiracDisc, DiracGen, PointsDisc, PointsGen
from jaxgan.networks.r3gan import R3GANDisc, R3GANGen
from jaxgan.networks.sngan import SNGANDisc, SNGANGen
from jaxgan.networks.stylegan2 import StyleGAN2Disc, StyleGAN2Gen
from jaxgan.networks.tf2 import TF2DCGANDisc, TF2DCGANGen, TF2GANDisc, TF2GANGen
from jaxgan.networks.wgan_gp import WGANGPDisc, WGANGPGen

__all__ = [
    "CantonLSGANDisc",
    "CantonLSGANGen",
    "Context",
    "DenseDigitsDisc",
    "DenseDigitsGen",
    "DigitsDisc",
    "DigitsGen",
    "DiracDisc",
    "DiracGen",
    "GANElementsDisc",
    "GANElementsGen",
    "KerasDCGANDisc",
    "KerasDCGANGen",
    "KerasMNISTDisc",
    "KerasMNISTGen",
    "PlainDisc",
    "PlainGen",
    "PointsDisc",
    "PointsGen",
    "R3GANDisc",
    "R3GANGen",
    "SNGANDisc",
    "SNGANGen",
    "StyleGAN2Disc",
    "StyleGAN2Gen",
    "TF2DCGANDisc",
    "TF2DCGANGen",
    "TF2GANDisc",
    "TF2GANGen",
    "WGANGPDisc",
    "WGANGPGen",
]
