"""IDX files made by the tests."""

import gzip


def idx_bytes(sizes, body, magic=b"\0\0\x08"):
    return magic + bytes([len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes) + body


def four_files(train, test):
    """IDX files of images, by name."""
    contents = {}
    for split, image_set in (("train", train), ("t10k", test)):
        images, labels = image_set["images"], image_set["labels"]
        count, _, height, width = images.shape
        contents[f"{split}-images-idx3-ubyte"] = idx_bytes((count, height, width), images.numpy().tobytes())
        contents[f"{split}-labels-idx1-ubyte"] = idx_bytes((count,), bytes(labels.tolist()))
    return contents


def lay_out(root, contents, packed=False):
    """Write files where `root` should have them, and give `root`."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in contents.items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    return root
