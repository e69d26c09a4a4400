"""SNGAN and WGAN-GP in PyTorch, written from their descriptions, for `test_torch_sngan`.

It shares nothing with the package's networks. Each network is a list of layers with parameters, in the order in which
the package numbers those of a kind, and a function that applies them.
"""

import torch
import torch.nn.functional as F
from torch.nn import LeakyReLU, Linear, ReLU, Sigmoid

from jaxgan.benchmark.torch_networks import Apply, Conv, ConvTranspose, batch_norm


class SNGANGen(torch.nn.Module):
    """Miyato et al. 2018, table 4 (a): dense, three blocks that double the size, BN, relu, conv, tanh."""

    def __init__(self, width, z_size=128):
        super().__init__()
        self.width = width
        self.dense, self.norm, self.last = Linear(z_size, 16 * width), batch_norm(width), Conv(width, 3, 3)
        make = lambda layer, *args: torch.nn.ModuleList(layer(*args) for _ in range(3))  # noqa: E731
        self.norm1, self.norm2 = make(batch_norm, width), make(batch_norm, width)
        self.conv1, self.conv2, self.skip = (make(Conv, width, width, k) for k in (3, 3, 1))

    def numbered(self):
        """Layers by the names of the package's."""
        norms = [norm for i in range(3) for norm in (self.norm1[i], self.norm2[i])] + [self.norm]
        convs = [conv for i in range(3) for conv in (self.conv2[i], self.skip[i])] + [self.last]
        kinds = {"Dense": [self.dense], "BatchNorm": norms, "UpsampleConv": self.conv1, "Conv": convs}
        return {f"{kind}_{i}": layer for kind, layers in kinds.items() for i, layer in enumerate(layers)}

    def forward(self, z):
        x = self.dense(z).reshape(-1, 4, 4, self.width).permute(0, 3, 1, 2)
        up = lambda x: F.interpolate(x, scale_factor=2, mode="nearest")  # noqa: E731
        for norm1, conv1, norm2, conv2, skip in zip(
            self.norm1, self.conv1, self.norm2, self.conv2, self.skip, strict=True
        ):
            x = conv2(F.relu(norm2(conv1(up(F.relu(norm1(x))))))) + skip(up(x))
        return torch.tanh(self.last(F.relu(self.norm(x))))


class SNGANDisc(torch.nn.Module):
    """Miyato et al. 2018, table 4 (b): four blocks, of which two halve the size, relu, sum over pixels, dense."""

    def __init__(self, width):
        super().__init__()
        c = lambda c_in, k: Conv(c_in, width, k)  # noqa: E731
        self.convs = torch.nn.ModuleList(
            [c(3, 3), c(width, 3), c(3, 1), c(width, 3), c(width, 3), c(width, 1), *(c(width, 3) for _ in range(4))]
        )
        self.dense = Linear(width, 1)
        self.v = {}

    def layers(self):
        return [*self.convs, self.dense]

    def numbered(self):
        """The second of two convolutions is made first, and so has the lower number."""
        order = [1, 0, 2, 4, 3, 5, 7, 6, 9, 8, 10]
        return {f"SpectralNorm_{i}": self.layers()[j] for i, j in enumerate(order)}

    def advance(self):
        """One power iteration of all weights: v = W^T W v, normalised."""
        with torch.no_grad():
            for layer in self.layers():
                w = layer.weight.flatten(1)
                self.v[layer] = F.normalize(w.T @ (w @ self.v[layer]), dim=0)

    def forward(self, x):
        def apply(i, x):
            layer = self.layers()[i]
            weight = layer.weight / (layer.weight.flatten(1) @ self.v[layer]).norm()
            if isinstance(layer, Linear):
                return F.linear(x, weight, layer.bias)
            return F.conv2d(x, weight, layer.bias, padding=layer.kernel_size[0] // 2)

        pool = lambda x: F.avg_pool2d(x, 2)  # noqa: E731
        x = pool(apply(1, F.relu(apply(0, x)))) + apply(2, pool(x))
        x = pool(apply(4, F.relu(apply(3, F.relu(x))))) + pool(apply(5, x))
        for i in (6, 8):
            x = x + apply(i + 1, F.relu(apply(i, F.relu(x))))
        return apply(10, F.relu(x).sum((2, 3)))[:, 0]


class Listed(torch.nn.Sequential):
    """Layers one after the other."""

    def numbered(self):
        kinds = {"Dense": Linear, "ConvTranspose": ConvTranspose, "Conv": Conv}
        of = {name: [layer for layer in self if isinstance(layer, kind)] for name, kind in kinds.items()}
        return {f"{name}_{i}": layer for name, layers in of.items() for i, layer in enumerate(layers)}

    def advance(self):
        """Nothing: no weight is normalised."""


def wgan_gp_gen(w, z_size=128):
    """The authors' MNIST script: dense, three transposed convolutions, of which the first is cut to 7x7, sigmoid."""
    to_map = Apply(lambda x: x.reshape(-1, 4, 4, 4 * w).permute(0, 3, 1, 2))
    first, second, third = (ConvTranspose(*c, 5, 2) for c in ((4 * w, 2 * w), (2 * w, w), (w, 1)))
    cut = Apply(lambda x: x[:, :, :7, :7])
    return Listed(Linear(z_size, 64 * w), ReLU(), to_map, first, ReLU(), cut, second, ReLU(), third, Sigmoid())


def wgan_gp_disc(w):
    """Three convolutions of stride 2, leaky relus and a dense layer."""
    convs = [Conv(*channels, 5, 2) for channels in ((1, w), (w, 2 * w), (2 * w, 4 * w))]
    to_logits = Apply(lambda x: x.permute(0, 2, 3, 1).flatten(1)), Linear(64 * w, 1), Apply(lambda x: x[:, 0])
    return Listed(*(layer for conv in convs for layer in (conv, LeakyReLU(0.2))), *to_logits)


NETWORKS = {"sngan": (SNGANGen, SNGANDisc), "wgan_gp": (wgan_gp_gen, wgan_gp_disc)}


def disc_loss(name, disc, real, fake, u):
    """Hinge, or Wasserstein with ten times the penalty at u real + (1 - u) fake; vectors advance before it."""
    disc.advance()
    on_real, on_fake = disc(real), disc(fake)
    if name == "sngan":
        return F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()
    between = (u * real + (1 - u) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(disc(between).sum(), between, create_graph=True)
    return on_fake.mean() - on_real.mean() + 10 * (gradient.flatten(1).norm(dim=1) - 1).square().mean()
