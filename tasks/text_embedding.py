"""Texts in classes: an embedding of each word, and its mean over the words that are there."""

from __future__ import annotations

import keras
from keras import layers

from tasks.classifier import Classifier
from tasks.table_imbalance import columns_of


class TextEmbedding(Classifier):
    """Predict the class of a text from its words.

    Texts are padded with 0 to one length. The embedding masks that padding, so that the mean over
    the words of a text is the same however far it was padded.
    """

    def build_model(self) -> keras.Model:
        """Return the network from the words that were learned from the training rows."""
        net, columns = self.network, columns_of(self)
        inputs, texts = {}, []
        for column in columns.texts:
            inputs[column.name] = keras.Input((column.length,), dtype="int32", name=column.name)
            words = layers.Embedding(column.size, net.embedding, mask_zero=True)
            texts.append(layers.GlobalAveragePooling1D()(words(inputs[column.name])))
        x = texts[0] if len(texts) == 1 else layers.Concatenate()(texts)
        x = layers.Dropout(net.dropout)(x)
        classes = len(columns.target.classes)
        outputs = layers.Dense(classes, activation="softmax", dtype="float32")(x)
        return keras.Model(inputs, outputs, name="text_embedding")
