"""The label-noise files that papers published: where each is, its SHA-256, its licence.

    path = published_noise.fetch_noise("re_sln/cifar10/sym0.4.csv")
    # data/label_noisy/re_sln/cifar10/sym0.4.csv

All labels are in torchvision's training order. Names are `<source>/<file>`, with the dataset
between them where file names repeat. `shared.formats.external` reads them all; the files of several
repositories carry no licence, so they are downloaded by who needs them and never copied into
anything that is passed on.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from shared.datasets import DatasetError, data_root, download

_NONE = "none stated in the repository"
MAX_BYTES = 64 * 2**20  # of one file; the largest has 4


@dataclass(frozen=True)
class PublishedNoise:
    """One published file."""

    name: str
    dataset: str  # cifar10 or cifar100
    images: str  # which training images it labels
    repository: str  # on GitHub
    commit: str  # whole; the checksum pins the content
    path: str  # in the repository
    sha256: str
    licence: str

    @property
    def url(self) -> str:
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.path}"


def fetch_noise(name: str, path: str | Path | None = None) -> Path:
    """The published file `name` below `<data root>/label_noisy`, downloaded if need be; checked.

    path: data root, see `shared.datasets.data_root`. Raises DatasetError for an unknown name,
    DownloadError when the file could not be downloaded.
    """
    if name not in NOISE:
        raise DatasetError(
            f"unknown noise file {name!r}; the published ones are:\n  " + "\n  ".join(NOISE)
        )
    noise = NOISE[name]
    place = f"label_noisy/{name}"
    return download.fetch(
        noise.url,
        data_root(path) / place,
        sha256=noise.sha256,
        limit=MAX_BYTES,
        names=(place, name),
    )


def fetch_collection(name: str, path: str | Path | None = None) -> list[Path]:
    """Every file of a collection of COLLECTIONS, by fetch_noise; where they are."""
    if name not in COLLECTIONS:
        raise DatasetError(
            f"unknown collection of noise files {name!r}; there are {', '.join(COLLECTIONS)}"
        )
    return [fetch_noise(file, path) for file in NOISE if file.split("/")[0] in COLLECTIONS[name]]


def _source(
    source: str,
    repository: str,
    commit: str,
    licence: str,
    images: str,
    tables: dict[str, str],
) -> list[PublishedNoise]:
    """The files of a repository; tables: folder -> lines of SHA-256 and file name."""
    files = []
    for folder, table in tables.items():
        is_100 = re.search(r"cifar-?100", folder, re.IGNORECASE)
        for line in table.strip().splitlines():
            sha256, file = line.split()
            is_hundred = is_100 or re.match(r"cifar-?100", file, re.IGNORECASE)
            dataset = "cifar100" if is_hundred else "cifar10"
            name = f"{source}/{dataset}/{file}" if file.endswith(".csv") else f"{source}/{file}"
            path = f"{folder}/{file}"
            files.append(
                PublishedNoise(name, dataset, images, repository, commit, path, sha256, licence)
            )
    return files


ALL_IMAGES = "all 50,000"
FIRST_IMAGES = "the first 45,000"

_FILES = [
    # Part-dependent noise (PDN, Xia et al. 2020), rate 0.5, seed 123, as InstanceGM writes it.
    *_source(
        "instancegm",
        "zhi-fangZhang/idpl_gen",
        "0626f9d08138278bbe0b970a3055d714150ab4a0",
        _NONE,
        ALL_IMAGES,
        {
            "data/cifar-10-batches-py": """
bdb4ab46ac5e57e16cfb8746be73f76c9c7af63b3ccfec86e4c4f3412b9a1fcc  0.5_instance.pt
""",
        },
    ),
    # The six files of the SLN paper (Chen et al., ICLR 2021).
    *_source(
        "sln",
        "chenpf1025/SLN",
        "621c6c87138db09fdca66a7610b126ee4b265b74",
        _NONE,
        ALL_IMAGES,
        {
            "data/CIFAR10/label_noisy": """
eae3112b2e876f1ed375d2456b7d9b135b3b0f0c9e5c1a2d1b81417307d7d64c  asym0.4.csv
e56e57cd7ec402ead6cd65f6f64ca436c7d3e5cf4bdf174eb8a1efa1daa90dad  dependent0.4.csv
96c1bb492340f32681142d5cb2b0003c005227235e923b27ef86d2c11ab083d0  sym0.4.csv
""",
            "data/CIFAR100/label_noisy": """
a1fbcb8217b5c7dc68cc1f101d2034c634fce5e2b9f6ac34daadc5ca9826bd3c  asym0.4.csv
f5d3e4506550be0532344138d6f0fc82ac32472cf669acee43b8f190b8d260d7  dependent0.4.csv
e074d1181c8b297dd1e888a70bc8a959c26769c08fb4fadff58460f901d5f5fc  sym0.4.csv
""",
        },
    ),
    # re-sln: the same six again, and its own (seed 123). openset files flag replaced images instead
    # of changing labels.
    *_source(
        "re_sln",
        "mark-antal-csizmadia/re-sln",
        "fbb6e5a130b8fca2baf8bf7b33571b47acb65f62",
        _NONE,
        ALL_IMAGES,
        {
            "data/cifar10/label_noisy": """
eae3112b2e876f1ed375d2456b7d9b135b3b0f0c9e5c1a2d1b81417307d7d64c  asym0.4.csv
72f4812c41ed1f896d967df46df309c54fb84c08ab66a67eed2e92b68aac916e  asym0.4_custom.csv
27873e2cafb21a26b8b77964d0f660a259fc3a637746e939901e83d41a37b598  asym0.5_custom.csv
e56e57cd7ec402ead6cd65f6f64ca436c7d3e5cf4bdf174eb8a1efa1daa90dad  dependent0.4.csv
29bd238950ca7d9d10447087a1a594a67394fcdfd6a514d7d1c7590b2bf0437c  openset0.4_custom.csv
adbbb5622667371b27e09c15efc85cd569927dad140422594dad06c53c4e587a  openset0.5_custom.csv
dbbf2581bdf25fdfeba842a2ab0d24165a42fe0b256a95174e0169a9b755b16f  openset0.6_custom.csv
96c1bb492340f32681142d5cb2b0003c005227235e923b27ef86d2c11ab083d0  sym0.4.csv
c0a7589754a9d35668b6e5d41ae47426b56bfdbf7eb1b5bc27292eb5e682a734  sym0.4_custom.csv
04ed82f09ac2504e7273ce2dbd1c81c67ba2c821622f101b447b73a01fd61101  sym0.5_custom.csv
""",
            "data/cifar100/label_noisy": """
a1fbcb8217b5c7dc68cc1f101d2034c634fce5e2b9f6ac34daadc5ca9826bd3c  asym0.4.csv
45f7ea205df7532a1f598efdfaaaea0b67a5596b6babee2aeabd895d59730b35  asym0.4_custom.csv
f5d3e4506550be0532344138d6f0fc82ac32472cf669acee43b8f190b8d260d7  dependent0.4.csv
e074d1181c8b297dd1e888a70bc8a959c26769c08fb4fadff58460f901d5f5fc  sym0.4.csv
d8b255f8b3ec0bce38b2df000ac39294b6d8e3138a0fbf52a2df4d5d8807c556  sym0.4_custom.csv
""",
        },
    ),
    # LRA-diffusion (Chen et al., NeurIPS 2023): PMD noise of type I; _U_ / _A_: uniform /
    # asymmetric noise on top.
    *_source(
        "lra_diffusion",
        "puar-playground/LRA-diffusion",
        "2f58961b0af89f36be651e301fc512a7772b1f43",
        "MIT",
        FIRST_IMAGES,
        {
            "noise_label": """
f8216a408f6413c82b1aa6868e496a6ed4ad712d5876a110bd53bb779bd3c3d2  cifar10-1-0.35.npy
a86ccc94aea4de62231015da474fc41652631f668873d7d8dc3a62c485420c29  cifar10-1-0.35_A_0.3.npy
a432572a0840682dbb36248788ecb46c8fe1e808e2a4ef632d3db0b4af3303d7  cifar10-1-0.35_U_0.3.npy
0922ba443aae18750e3beae420d61b583d545ff9064302e9f8bf7e3303ef9424  cifar10-1-0.35_U_0.6.npy
3809a1e5861d8cda89bbac1b1eab1612956aff619bb7e5edc44e9659a8d77461  cifar10-1-0.40.npy
c73a7cca3ae74c02aba697ba4e03042802cc93709d509263c539992468dcf5c2  cifar10-1-0.45.npy
e651f81421e1e0a957b590b04f986311cd4dc0cfffa51b9f0190e7a8495caa07  cifar10-1-0.50.npy
89da16d56b96822fe56381dd25ba2a0de77c5e6f2d5e972b47c15092f121af6d  cifar10-1-0.55.npy
2df78679a833f68da4846dddcf3fb8d662f879fdb2af192135f363f8b613c84e  cifar10-1-0.60.npy
0958eb912d2bea0ff82524f34a64986906945d9294f7c2377a99f1a1d13d4d9d  cifar10-1-0.65.npy
ab274c1392fda8138d5b3e6f1e3786aac2b6cd52752cbfd289542a5ca85a6bdf  cifar10-1-0.70.npy
cef3ccade9429ed0721b15f066cc5a5ef6141d299f6a9f0b1a0808e748dec848  cifar100-1-0.35.npy
44239954ccc57b44ed4c65d6d7f4cadf75f32d351109378a2ac450f0f31ab32e  cifar100-1-0.35_A_0.3.npy
55d24a3d90f9cda17c1ad67e28cdd165831dfe26f156f94256727936beffcd7a  cifar100-1-0.35_U_0.3.npy
cea0f2dda64c7cbc8a14f93634a7c4080955da2fa6cd8a0f79ad4167b19057dc  cifar100-1-0.35_U_0.6.npy
22026d55c7b6ee34bde26c7f6fe66f4cb5a38561dff25cf4bf39931c554ed8b6  cifar100-1-0.70.npy
""",
        },
    ),
    # PLC (Zhang et al., ICLR 2021): PMD noise <dataset>-<type>-<rate>.
    *_source(
        "plc",
        "pxiangwu/PLC",
        "8c2bcfd25e538fdcdb637a820ac340e9ee084e59",
        _NONE,
        FIRST_IMAGES,
        {
            "cifar/noisy_labels": """
f8216a408f6413c82b1aa6868e496a6ed4ad712d5876a110bd53bb779bd3c3d2  cifar10-1-0.35.npy
ab274c1392fda8138d5b3e6f1e3786aac2b6cd52752cbfd289542a5ca85a6bdf  cifar10-1-0.70.npy
0b1c144637547296af0fda75f6747dd6a1670750fecf444c06a0654068904d78  cifar10-2-0.35.npy
8b187c86378a2916dcb2387ef8864b8728a43320ac4f617d1b645f24c6cf4fad  cifar10-2-0.70.npy
322de9da3ed0d20c7c6081cd5de34db4a94879fb671057f78ee5fa469d8b5e17  cifar10-3-0.35.npy
d96249e0df489de665de41f22e7812258d87511ac0498c61b408630f08cbfe60  cifar10-3-0.70.npy
cef3ccade9429ed0721b15f066cc5a5ef6141d299f6a9f0b1a0808e748dec848  cifar100-1-0.35.npy
22026d55c7b6ee34bde26c7f6fe66f4cb5a38561dff25cf4bf39931c554ed8b6  cifar100-1-0.70.npy
8d3cc60fbea6210eaaeaacab279b5b4a44fabc0dba4d383beac302877f8ebe7d  cifar100-2-0.35.npy
acaf6e760b8148b2f3444cd7b8595eeef457b7594e16aeb51d655c196a8e4d58  cifar100-2-0.70.npy
327b71dad500a348d38d9514f9de143764d674df5b4aceda40bbf23832c5956e  cifar100-3-0.35.npy
f24cb020e718661d6790cd25fde9d0e2ce5861a727032b1b6387de8c21cbe40f  cifar100-3-0.70.npy
""",
        },
    ),
    # CIFAR-N (Wei et al., ICLR 2022): labels by people; several columns in each file.
    *_source(
        "cifar_n",
        "UCSC-REAL/cifar-10-100n",
        "74a223a967598603e7205956ab5548a46d32c5f5",
        "CC BY-NC 4.0 (non-commercial)",
        ALL_IMAGES,
        {
            "data": """
873e69c39cb9b5e97fb6bae2d60bb59b38a5cbc31d2b868f7903dcb2b9dd2310  CIFAR-10_human.pt
bd2d80409754d420292d622e15e25248ba21e37d27429efac49c8da723f44394  CIFAR-100_human.pt
""",
        },
    ),
]
NOISE: dict[str, PublishedNoise] = {noise.name: noise for noise in _FILES}

# name -> sources, to be fetched at once
COLLECTIONS: dict[str, tuple[str, ...]] = {
    "sln-noise": ("sln", "re_sln"),
    "pmd-noise": ("lra_diffusion", "plc"),
    "cifar_n": ("cifar_n",),
}
