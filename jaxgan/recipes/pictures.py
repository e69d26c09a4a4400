"""`pictures`: R3GAN's networks for a folder of one's own, of the size, the channels and the classes that it has.

What nobody says is chosen by these rules, and stands in `config.json`:

- size: the power of two at or below the median of the pictures' shorter sides, from 16 to 256.
- channels: 1 where all pictures are grey, else 3; what is transparent is shown on white. Four have to be asked for.
- classes: the folders that the pictures lie in, or none.
- gamma, of R1 and of R2: 2 * (pixels / 64^2)^1.5. R3GAN (Huang et al. 2024, arXiv:2501.05441) has 2 for FFHQ at 64
  pixels and 150 at 256, where this gives 128. StyleGAN2-ADA's rule (Karras et al. 2020, arXiv:2006.06676, appendix C:
  0.0002 * pixels / batch size, for R1 alone) is for another loss.
- learning rates: 0.128 / width, at most 1e-3 and at least 2e-4, which are those of `r3gan_small` and of R3GAN, whose
  widths are 128 and 768.
- augment: StyleGAN2-ADA's augmentation where there are fewer than 10,000 pictures. The probability of each of its
  operations rises to 0.3, as R3GAN has it for small sets of 64 pixels, here over 10,000 updates (augment_ramp): 0.3
  from the start on did harm (docs/little-data.md).
"""

from collections.abc import Collection
from typing import Any

import numpy as np

from jaxgan import networks
from jaxgan.data import DataError, folder
from jaxgan.recipes.groups import Data, Networks, Objective, Optimization, Schedule
from jaxgan.recipes.settings import Recipe

SMALLEST, LARGEST = 16, 256  # sizes that are chosen
FEW = 10_000  # pictures below which they are augmented
GAMMA = 2.0  # at 64 pixels
RATE, RATES, AUGMENT = 0.128, (2e-4, 1e-3), 0.3


def of_data(recipe: Recipe, data_dir: str | None = None, said: Collection[str] = ()) -> Recipe:
    """A recipe with what the rules above choose for its data.

    Args:
      recipe: `pictures`, or one of its kind.
      data_dir: as for `open_data`.
      said: the settings that stay as they are.

    Returns:
      The recipe, with two lines of what was found and what was chosen as its `found`.

    Raises:
      DataError: no data are named, they cannot be had, or are smaller than the size that is said.
      ValueError: no network has the size.
    """
    recipe, (height, width), line, count = fitted(recipe, data_dir, said)
    rate = min(RATES[1], max(RATES[0], round(RATE / recipe.width, 6)))
    chosen: dict[str, Any] = {
        "gamma": float(f"{GAMMA * (height * width / 64**2) ** 1.5:.2g}"),
        "gen_learning_rate": rate,
        "disc_learning_rate": rate,
        "augment": AUGMENT if count < FEW else 0.0,
    }
    recipe = recipe.replace(**{name: value for name, value in chosen.items() if name not in said})
    if not recipe.augment and "augment_ramp" not in said:
        recipe = recipe.replace(augment_ramp=0)
    of_channels = {1: "grey", 3: "RGB", 4: "RGBA"}[recipe.channels]
    rates = f"{recipe.gen_learning_rate} and {recipe.disc_learning_rate}"
    ramp = f" after {recipe.augment_ramp:,} updates" if recipe.augment_ramp else ""
    lines = (
        line,
        f"{recipe.name}: {height}x{width} pixels, {of_channels}, width {recipe.width}, gamma {recipe.gamma}, learning "
        f"rates {rates}, augment {recipe.augment}{ramp}; each is a flag",
    )
    return recipe.replace(found=lines)


def fitted(recipe: Recipe, data_dir: str | None, said: Collection[str]) -> tuple[Recipe, tuple[int, int], str, int]:
    """A recipe with the size, the channels and the classes of its data; arguments and errors are those of `of_data`.

    Returns:
      The recipe; its height and width; a line that says what was found; and how many pictures there are.
    """
    if "data" not in said and recipe.data == RECIPE.data:
        raise DataError(f"{recipe.name} is for pictures of your own; say where they are: `data` folder:PATH")
    found, side, channels = look(recipe, data_dir)
    if found.others or found.unpaired:
        raise DataError(
            f"{found.name} has more than images, which {recipe.name} does not take; name a folder:PATH of them"
        )
    if "size" not in said and side < SMALLEST:
        raise DataError(f"{found.name}: the median of its pictures' shorter sides is {side}, below {SMALLEST}")
    seen = {"size": str(min(LARGEST, 2 ** (side.bit_length() - 1))), "channels": channels}
    recipe = recipe.replace(**{name: value for name, value in seen.items() if name not in said})
    (height, width), stages = recipe.networks.sizes()
    height, width = height << stages - 1, width << stages - 1
    if min(height, width) > side:
        raise DataError(
            f"`size` {recipe.size}: the median of the shorter sides of {found.name} is {side} pixels; give that or less"
        )
    classes = len(found.classes)
    of_classes = f"{classes} classes" if classes else "no classes"
    line = f"{found.name}: {found.size:,} pictures, {of_classes}, the median of their shorter sides {side} pixels"
    return recipe.with_classes(classes), (height, width), line, found.size


def look(recipe: Recipe, data_dir: str | None) -> tuple[Any, int, int]:
    """The data of a recipe as they are: opened; the median of the shorter sides; and the channels, 1 or 3.

    Raises:
      DataError: they cannot be had.
    """
    found = recipe.open_data(data_dir, as_they_are=True)
    if isinstance(recipe.data, str) and recipe.data.startswith("folder:"):
        sizes, grey = folder.look(found.name)
        return found, int(np.median(sizes.min(axis=1))), 1 if grey.all() else 3
    height, width, channels = found.shape
    return found, min(height, width), channels if channels in (1, 3, 4) else 3


RECIPE = Recipe(
    name="pictures",
    about="a folder of your own pictures, at 16 to 256 pixels: R3GAN's networks, and rules for the rest",
    gen=networks.R3GANGen((128, 64, 32, 16), blocks=1),
    disc=networks.R3GANDisc((128, 64, 32, 16), blocks=1),
    networks=Networks(size="32", channels=3, width=128),
    source=Data(data="cifar10", batch_size=32),
    objective=Objective(z_size=64, loss="relativistic", gamma=0.25, augment_ramp=10_000, generated_labels="real"),
    optimization=Optimization(gen_learning_rate=1e-3, disc_learning_rate=1e-3, beta1=0.0, beta2=0.99),
    schedule=Schedule(steps=10_000, ema_half_life=20_000),
    by_data=of_data,
)
