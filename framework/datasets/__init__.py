"""Image sets by name: download, formats, stand-ins, augmentation."""
