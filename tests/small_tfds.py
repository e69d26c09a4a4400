"""Small real TFDS datasets, written by TFDS itself as ArrayRecord files; TensorFlow is not needed."""

import tensorflow_datasets as tfds


def write(data_dir, examples, name="small", image=None, others=None, splits=("train",)):
    """Prepares a dataset below `data_dir`, its examples in the order given, in each of the splits.

    Args:
      data_dir: for TFDS.
      examples: a dict of the features' values each; an image is given as its encoded bytes.
      name: of the dataset.
      image: the feature named `image`; `tfds.features.Image()` by default.
      others: the other features, by their names.
      splits: their names.

    Returns:
      The folder of the dataset.
    """
    features = tfds.features.FeaturesDict({"image": image or tfds.features.Image(), **(others or {})})

    class Small(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples() for split in splits}

        def _generate_examples(self):
            yield from enumerate(examples)

    Small.name = name
    builder = Small(data_dir=data_dir)
    builder.download_and_prepare(file_format="array_record")
    return builder.data_path
