"""BiGAN, InfoGAN, pix2pix and CycleGAN in PyTorch, written from their papers, for `test_torch_games`.

It shares nothing with the package's networks. Weights come as the package's trees of tensors, in its layout; maps are
[B, C, H, W]. Each function gives both losses of a batch.
"""

import torch
import torch.nn.functional as F

leaky = F.leaky_relu


def bce(logits, label):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def dense(p, x):
    return x @ p["kernel"] + p["bias"]


def conv(p, x, stride=1):
    """Padded so that the size is divided by the stride, the odd pixel below and to the right (SAME)."""
    k = p["kernel"].shape[0]
    total = max(k - stride, 0)
    x = F.pad(x, (total // 2, total - total // 2) * 2)
    return F.conv2d(x, p["kernel"].permute(3, 2, 0, 1), p["bias"], stride)


def up(p, x):
    """A transposed convolution of stride 2 to twice the size."""
    size, kernel = 2 * x.shape[-1], p["kernel"].flip(0, 1).permute(2, 3, 0, 1)
    padding = 1 if kernel.shape[-1] == 4 else 0
    return F.conv_transpose2d(x, kernel, p["bias"], stride=2, padding=padding)[..., :size, :size]


def batch_norm(p, x):
    return F.batch_norm(x, None, None, p["scale"], p["bias"], training=True, eps=1e-3)


def channels_last(x):
    """As the package flattens maps."""
    return x.permute(0, 2, 3, 1).flatten(1)


def bigan(gen, disc, batch):
    def layers(p, x, slope):
        x = dense(p["Dense_1"], leaky(dense(p["Dense_0"], x), slope))
        return dense(p["Dense_2"], leaky(batch_norm(p["BatchNorm_0"], x) if p is not disc["Layers_0"] else x, slope))

    x, z = channels_last(batch["images"]), batch["z"]
    fake, code = torch.sigmoid(layers(gen["image"], z, 0)), layers(gen["code"], x, 0.2)
    judge = lambda x, z: layers(disc["Layers_0"], torch.cat([x, z], 1), 0.2)  # noqa: E731
    of_fake, of_real = judge(fake, z), judge(x, code)
    return bce(of_fake, 1.0) + bce(of_real, 0.0), bce(of_fake, 0.0) + bce(of_real, 1.0)


def infogan(gen, disc, batch):
    z = batch["z"]
    of_class, numbers = F.one_hot(z[:, :10].argmax(1), 10).to(z.dtype), z[:, 10:12]
    x = torch.relu(batch_norm(gen["BatchNorm_0"], dense(gen["Dense_0"], torch.cat([of_class, numbers, z[:, 12:]], 1))))
    x = torch.relu(batch_norm(gen["BatchNorm_1"], dense(gen["Dense_1"], x))).reshape(-1, 7, 7, 128).permute(0, 3, 1, 2)
    x = torch.relu(batch_norm(gen["BatchNorm_2"], up(gen["ConvTranspose_0"], x)))
    fake = torch.sigmoid(up(gen["ConvTranspose_1"], x))

    def judge(x):
        x = leaky(conv(disc["Conv_0"], x, 2), 0.1)
        x = channels_last(leaky(batch_norm(disc["BatchNorm_0"], conv(disc["Conv_1"], x, 2)), 0.1))
        x = leaky(batch_norm(disc["BatchNorm_1"], dense(disc["Dense_0"], x)), 0.1)
        q = dense(disc["Dense_1"], leaky(batch_norm(disc["BatchNorm_2"], dense(disc["Dense_2"], x)), 0.1))
        return dense(disc["Dense_3"], x), q

    (of_fake, q), (of_real, _) = judge(fake), judge(batch["images"])
    normal = torch.distributions.Normal(q[:, 10:], 1.0)
    constant = torch.distributions.Normal(0.0, 1.0).log_prob(torch.zeros(2, dtype=z.dtype)).sum()
    of_numbers = constant - normal.log_prob(numbers).sum(1).mean()
    unknown = F.cross_entropy(q[:, :10], z[:, :10].argmax(1)) + 0.1 * of_numbers
    return bce(of_fake, 1.0) + unknown, bce(of_fake, 0.0) + bce(of_real, 1.0) + unknown


def patches(p, x, strides):
    x = leaky(conv(p["Conv_0"], x, strides[0]), 0.2)
    return conv(p["Conv_2"], leaky(F.instance_norm(conv(p["Conv_1"], x, strides[1])), 0.2))


def pix2pix(gen, disc, batch):
    p, x, skips = gen["UNet_0"], batch["condition"], []
    for i in range(4):
        x = conv(p[f"Conv_{i}"], x, 2)
        x = leaky(x if i in (0, 3) else F.instance_norm(x), 0.2)
        skips.append(x)
    for i, skip in enumerate(skips[2::-1]):
        x = F.instance_norm(up(p[f"ConvTranspose_{i}"], x))
        if i < 2:
            x = 2 * x * batch["kept"][i]  # dropout of one half
        x = torch.cat([torch.relu(x), skip], 1)
    fake = torch.tanh(up(p["ConvTranspose_3"], x))
    judge = lambda x: patches(disc["PatchDisc_0"], torch.cat([batch["condition"], x], 1), (2, 1))  # noqa: E731
    of_fake, of_real = judge(fake), judge(batch["images"])
    gen_loss = bce(of_fake, 1.0) + 100 * F.l1_loss(fake, batch["images"])
    return gen_loss, 0.5 * (bce(of_real, 1.0) + bce(of_fake, 0.0))


def cyclegan(gen, disc, batch):
    def translated(p, x):
        norm = F.instance_norm
        for i, stride in enumerate((1, 2, 2)):
            x = torch.relu(norm(conv(p[f"Conv_{i}"], x, stride)))
        for i in (3, 5, 7):
            x = x + norm(conv(p[f"Conv_{i + 1}"], torch.relu(norm(conv(p[f"Conv_{i}"], x)))))
        for i in range(2):
            x = torch.relu(norm(up(p[f"ConvTranspose_{i}"], x)))
        return torch.tanh(conv(p["Conv_9"], x))

    to_y, to_x = (lambda image, p=gen[name]: translated(p, image) for name in ("to_images", "to_other"))
    of_y, of_x = (lambda image, p=disc[name]: patches(p, image, (2, 2)) for name in ("own", "other"))
    x, y = batch["other"], batch["images"]
    fake_y, fake_x = to_y(x), to_x(y)
    cycle = F.l1_loss(to_x(fake_y), x) + F.l1_loss(to_y(fake_x), y)
    same = F.l1_loss(to_y(y), y) + F.l1_loss(to_x(x), x)
    gen_loss = ((of_y(fake_y) - 1) ** 2).mean() + ((of_x(fake_x) - 1) ** 2).mean() + 10 * cycle + 5 * same
    shown = {name: fake.clone() for name, fake in (("images", fake_y), ("other", fake_x))}
    for name, earlier in batch["earlier"].items():
        for i, image in earlier.items():
            shown[name][i] = image
    disc_loss = ((of_y(y) - 1) ** 2).mean() + (of_y(shown["images"]) ** 2).mean()
    disc_loss = disc_loss + ((of_x(x) - 1) ** 2).mean() + (of_x(shown["other"]) ** 2).mean()
    return gen_loss, disc_loss / 2
