"""Images that are published as four IDX files: MNIST, and the sets that follow its format."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

PublishedName = Literal["mnist", "fashion", "kmnist", "qmnist", "emnist"]


class KnownFile(NamedTuple):
    """A file as its authors published it."""

    packed_bytes: int  # at most
    packed_hash: str  # sha256, or md5:…, of the gzip file
    sha256: str | None  # of the unpacked file; None: not published


class Published(NamedTuple):
    """A set of images, where torchvision has its files, and where they are downloaded from."""

    name: str  # for captions
    folder: str  # below the root; the files are in its subfolder raw
    files: Mapping[str, KnownFile]  # training images, training labels, test images, test labels
    mirrors: Sequence[str]  # each holds <file>.gz; or the archive
    class_names: tuple[str, ...] = ()  # empty: the digits 0 to 9
    archive: tuple[str, KnownFile] | None = None  # a zip file that holds gzip/<file>.gz
    transposed: bool = False  # whether rows of pixels are columns
    first_label: int = 0


KNOWN = {
    "train-images-idx3-ubyte": KnownFile(
        9_912_422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": KnownFile(
        28_881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": KnownFile(
        1_648_877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": KnownFile(
        4_542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
# Of a file whose size torchvision does not say: twice the largest one, and twice the archive of EMNIST.
MAX_PACKED_BYTES, MAX_ARCHIVE_BYTES = 2**26, 2**30


def published(name: PublishedName, emnist_split: str = "balanced") -> Published:
    """Where a set of images is found; all but MNIST from torchvision's lists of mirrors and checksums.

    Args:
        name: of the set.
        emnist_split: which of the six sets of EMNIST.
    """
    if name == "mnist":
        return Published("MNIST", "MNIST", KNOWN, MIRRORS)
    from torchvision import datasets  # slow to import

    if name == "emnist":
        emnist, letters = datasets.EMNIST, emnist_split == "letters"
        mirror, _, archive = emnist.url.rpartition("/")
        files = [f"emnist-{emnist_split}-{part}" for part in _parts("train", "test")]
        return Published(
            f"EMNIST {emnist_split}",
            "EMNIST",
            {file: KnownFile(MAX_PACKED_BYTES, "", None) for file in files},
            [f"{mirror}/"],
            tuple(emnist.classes_split_dict[emnist_split][letters:]),
            archive=(archive, KnownFile(MAX_ARCHIVE_BYTES, f"md5:{emnist.md5}", None)),
            transposed=True,
            first_label=int(letters),
        )
    if name == "qmnist":
        listed = [*datasets.QMNIST.resources["train"], *datasets.QMNIST.resources["test"]]
        mirror = listed[0][0].rpartition("/")[0]
        known = {url.rpartition("/")[2].removesuffix(".gz"): _by_md5(md5) for url, md5 in listed}
        return Published("QMNIST", "QMNIST", known, [f"{mirror}/"])
    theirs, title = {
        "fashion": (datasets.FashionMNIST, "Fashion-MNIST"),
        "kmnist": (datasets.KMNIST, "Kuzushiji-MNIST"),
    }[name]
    by_name = {file.removesuffix(".gz"): _by_md5(md5) for file, md5 in theirs.resources}
    known = {file: by_name[file] for file in _parts("train", "t10k")}
    return Published(title, theirs.__name__, known, theirs.mirrors, tuple(theirs.classes))


def _parts(*splits: str) -> list[str]:
    return [f"{split}-{what}" for split in splits for what in ("images-idx3-ubyte", "labels-idx1-ubyte")]


def _by_md5(md5: str) -> KnownFile:
    return KnownFile(MAX_PACKED_BYTES, f"md5:{md5}", None)
