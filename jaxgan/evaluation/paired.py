"""How far images are from those that they should be, where each has one of its own."""

import numpy as np


def paired(images: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """The distances of images to their targets, by name; means over the images, in float64.

    Args:
      images: uint8 [N, ...], or floats.
      targets: like images.

    Returns:
      l1: the mean absolute difference of all values, where 0 is black and 1 is white, as papers have it; of floats in
        their own units.
      psnr: of uint8 alone, the peak signal-to-noise ratio, 10 log10(255^2 / MSE) of each image, in dB. An exact copy,
        whose ratio is infinite, counts as if a single value were off by 1, so that the mean is a number.

    Raises:
      ValueError: there are no images, or the targets are of another shape or kind.
    """
    if not len(images) or images.shape != targets.shape or images.dtype != targets.dtype:
        of = [f"{x.dtype} {list(x.shape)}" for x in (images, targets)]
        raise ValueError(f"images, {of[0]}, and their targets, {of[1]}, must be alike, and there must be one")
    differences = (image.astype(np.float64) - target for image, target in zip(images, targets, strict=True))
    l1, mse = np.transpose([(np.mean(np.abs(x)), np.mean(np.square(x))) for x in differences])
    if images.dtype != np.uint8:
        return {"l1": float(l1.mean())}
    psnr = 10 * np.log10(255**2 / np.maximum(mse, 1 / images[0].size))
    return {"l1": float(l1.mean() / 255), "psnr": float(psnr.mean())}
