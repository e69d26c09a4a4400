"""The recipes, by the name under which recipe files import them: `jaxgan.recipes`."""

from jaxgan.recipes import *  # noqa: F403
