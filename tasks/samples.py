"""Small made-up data for the gallery: `python -m tasks.samples samples`.

A table of payments of which few are fraud, reviews with an opinion, and images of shapes. They are
the same every time, and say nothing about real ones.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

GOOD, BAD = ("lovely", "brilliant", "moving", "clever"), ("dull", "clumsy", "boring", "shallow")
PLAIN = ("the", "film", "story", "was", "with", "a", "cast", "that", "is", "long", "and", "its")


def write_payments(path: Path, rows: int = 4000) -> None:
    """Write a CSV of payments: 1 in 20 is fraud, more often at night, abroad and if it is large."""
    random = np.random.default_rng(0)
    amount = random.lognormal(3, 1, rows)
    hour = random.integers(0, 24, rows)
    country = random.choice(["NO", "SE", "IT", "US"], rows, p=[0.5, 0.3, 0.15, 0.05])
    score = 1.2 * (np.log(amount) - 3) + 1.5 * (hour < 6) + 1.5 * (country == "US")
    risk = score + random.normal(0, 1, rows)
    fraud = risk > np.quantile(risk, 0.95)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["amount", "hour", "country", "fraud"])
        for row in zip(amount, hour, country, fraud, strict=True):
            known = f"{row[0]:.2f}" if random.random() > 0.02 else ""
            writer.writerow([known, row[1], row[2], int(row[3])])


def write_reviews(path: Path, rows: int = 2000) -> None:
    """Write a CSV of reviews of 4 to 20 words, of which some tell whether it is a good one."""
    random = np.random.default_rng(1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "opinion"])
        for opinion in random.integers(0, 2, rows):
            words = list(random.choice(PLAIN, random.integers(3, 18)))
            for _ in range(random.integers(1, 3)):
                told = random.choice(GOOD if opinion else BAD)
                words.insert(int(random.integers(0, len(words))), str(told))
            writer.writerow([" ".join(words), "good" if opinion else "bad"])


def write_shapes(folder: Path, each: int = 60, side: int = 96) -> None:
    """Write JPEGs of discs, squares and crosses, in a folder for each."""
    import tensorflow as tf

    random = np.random.default_rng(2)
    y, x = np.mgrid[:side, :side]
    for name in ("cross", "disc", "square"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            size = random.uniform(0.15, 0.3) * side
            dy, dx = y - random.uniform(size, side - size), x - random.uniform(size, side - size)
            inside = {
                "disc": dx**2 + dy**2 < size**2,
                "square": np.maximum(abs(dx), abs(dy)) < 0.8 * size,
                "cross": (np.minimum(abs(dx), abs(dy)) < 0.3 * size)
                & (np.maximum(abs(dx), abs(dy)) < size),
            }[name]
            back, front = random.integers(0, 120, 3), random.integers(130, 256, 3)
            image = np.where(inside[..., None], front, back) + random.normal(0, 10, (side, side, 3))
            jpeg = tf.io.encode_jpeg(np.clip(image, 0, 255).astype(np.uint8))
            (folder / name / f"{number:03}.jpg").write_bytes(jpeg.numpy())


def main(place: str = "samples") -> None:
    """Write all of them into a folder."""
    folder = Path(place)
    folder.mkdir(parents=True, exist_ok=True)
    write_payments(folder / "payments.csv")
    write_reviews(folder / "reviews.csv")
    write_shapes(folder / "shapes")
    print(f"payments.csv, reviews.csv and shapes/ are in {folder}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
