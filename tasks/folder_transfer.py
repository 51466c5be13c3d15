"""A folder of images by class: a network that knows ImageNet, with a new head on top."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from framework import UserError
from tasks.classifier import Classifier


class FolderTransfer(Classifier):
    """Learn the classes of a folder on top of a network of `keras.applications`.

    Its first layers stay as they are; the last `model.unfrozen` ones and the head are trained. It
    runs as in inference, so that the statistics of its batch normalization stay, too.
    """

    def build_model(self) -> keras.Model:
        """Return the network with as many outputs as the folder has classes."""
        net, files = self.network, self.runtime.preprocessing
        if not getattr(files, "class_names", ()):
            fix = "Give data=image_folder data.dir=…"
            raise UserError("FolderTransfer needs a folder of images", where="data", fix=fix)
        inputs = keras.Input(files.shape)
        base = self.base(net, files.shape)
        for layer in base.layers[: len(base.layers) - net.unfrozen]:
            layer.trainable = False
        # The images are in 0..1, and MobileNetV2 learned from -1..1.
        features = base(layers.Rescaling(2.0, offset=-1.0)(inputs), training=False)
        x = layers.Dropout(net.dropout)(layers.GlobalAveragePooling2D()(features))
        classes = len(files.class_names)
        outputs = layers.Dense(classes, activation="softmax", dtype="float32", name="head")(x)
        return keras.Model(inputs, outputs, name="folder_transfer")

    def base(self, net: Any, shape: tuple[int, int, int]) -> keras.Model:
        """Return the network without its head; its weights are downloaded once by Keras."""
        return keras.applications.MobileNetV2(
            input_shape=shape, alpha=net.alpha, include_top=False, weights=net.weights
        )
