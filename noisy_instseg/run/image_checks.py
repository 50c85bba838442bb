"""Do the files of a dataset look as its annotations say? Headers of all, pixels of the first."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from noisy_instseg.run.datasets import Part, some_of
from noisy_instseg.run.progress import watched
from shared.coco import file as coco_file
from shared.errors import UserError

MANY = 1000  # images whose headers take seconds to read
TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
# formats that OpenCV, which training reads images with, turns as EXIF says; MPO: JPEGs of phones
TURNED_FORMATS = ("JPEG", "MPO", "PNG", "WEBP")


def check_sizes(part: Part, source: coco_file.CocoFile) -> None:
    """The declared sizes are those of the files, or masks would lie in the wrong places.

    Only headers are read.
    """
    images = source.content["images"]
    paths = [part.images / image["file_name"] for image in images]
    title = f"checking the sizes of the {part.name} images"
    wrong, broken = [], []
    with ThreadPoolExecutor(8) as pool:
        found = watched(pool.map(size_of, paths), title, len(paths), "image", MANY)
        for image, path, size in zip(images, paths, found):
            if size is None:
                broken.append(str(path))
            elif size != (image["width"], image["height"]):
                wrong.append(
                    f"{path} is {size[0]} x {size[1]}, and declared as {image['width']} x "
                    f"{image['height']}"
                )
    if broken:
        raise UserError(
            f"{len(broken)} of the {len(paths)} images of {part.annotations} cannot be read, "
            f"{some_of(broken, 3)}: get them again, or take them out of the file"
        )
    if wrong:
        raise UserError(
            f"{len(wrong)} of the {len(paths)} images of {part.annotations} have another size than "
            f"declared (width x height, turned as EXIF says), so that masks would lie in the wrong "
            f"places: {some_of(wrong, 3)}. Give the images that were annotated"
        )


def size_of(path: Path) -> tuple[int, int] | None:
    """(width, height) of an image as training sees it, by its header; None if it has none."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images
            with Image.open(path) as image:
                width, height = image.size
                # Not image.getexif(): it would decode a PNG without EXIF in its header, and heed
                # XMP. EXIF behind a PNG's pixels is not found; finding it takes the whole file.
                exif = Image.Exif()
                exif.load(image.info.get("exif", b""))
                turned = image.format in TURNED_FORMATS and exif.get(0x112) in TURNED
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        import cv2  # what training reads images with knows more formats and sizes

        if (pixels := cv2.imread(str(path))) is None:
            return None
        return pixels.shape[1], pixels.shape[0]
    return (height, width) if turned else (width, height)


def check_samples(part: Part, source: coco_file.CocoFile) -> None:
    """The first image and the first mask can be decoded."""
    import cv2
    from pycocotools import mask as coco_mask

    images = {image["id"]: image for image in source.content["images"]}
    path = part.images / source.content["images"][0]["file_name"]
    if cv2.imread(str(path)) is None:
        raise UserError(f"{path} cannot be decoded: get the image again")
    first = source.content["annotations"][0]
    image, runs = images[first["image_id"]], first["segmentation"]
    size = image["height"], image["width"]
    try:
        if isinstance(runs, list) or isinstance(runs["counts"], list):
            runs = coco_mask.frPyObjects(runs, *size)
        shape = coco_mask.decode(runs).shape[:2]
    except Exception as error:  # whatever pycocotools raises
        raise UserError(
            f"{part.annotations}: the mask of annotations[0] cannot be decoded ({error}): give "
            "polygons, or run lengths as pycocotools.mask.encode makes them"
        ) from error
    if shape != size:
        raise UserError(f"{part.annotations}: the mask of annotations[0] is {shape}, not {size}")
