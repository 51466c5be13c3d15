"""Image sets by name: downloads, file formats, synthetic stand-ins, augmentation."""
