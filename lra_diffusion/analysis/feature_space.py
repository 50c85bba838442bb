"""How good the feature space of an encoder f_p is: accuracy of its k nearest neighbours."""

import torch

from lra_diffusion.encoders import frozen
from lra_diffusion.encoders.embeddings import embed
from lra_diffusion.method.images import CIFAR_NORMALISATION
from lra_diffusion.method.retrieval import knn_accuracy
from lra_diffusion.run.data import on_device
from lra_diffusion.run.device import autocast, choose_device
from lra_diffusion.run.errors import UsageError
from lra_diffusion.run.labels import split
from lra_diffusion.run.own_pictures import in_memory, judged
from lra_diffusion.run.tool_schema import KNNConfig
from shared.formats.alignment import evenly


def measure(config: KNNConfig) -> float:
    """Prints and returns the accuracy in percent."""
    device = choose_device(config.device)
    data = judged(in_memory(config, config.data))
    rows = split(data)[0]
    rows = rows[evenly(len(rows), config.limit_train)]
    tested = evenly(len(data.test_labels), config.limit_test)
    if not len(tested):
        raise UsageError(
            f"{data.location} has neither test images nor a class of ten, of which one validates: "
            "nothing can be judged; add some in test/<class>/"
        )
    if config.k > len(rows):
        raise UsageError(
            f"--k {config.k}: there are {len(rows)} training images; give that or less"
        )
    encoder = frozen.build(
        config.fp_encoder,
        dataset=config.data,
        normalisation=CIFAR_NORMALISATION,
        image_side=data.train_images.shape[1],
        device=device,
        clip_type=config.CLIP_type,
        clip_activation=config.CLIP_activation,
        weights=config.fp_weights,
        data_path=config.data_path,
    )
    features = []
    for pixels in (data.train_images[rows], data.test_images[tested]):
        images = on_device(data, pixels, device)
        images.evaluation_batch = config.batch_size
        features.append(embed(encoder, images, autocast(config.amp, device)))
    bank_labels, labels = (
        torch.tensor(part, device=device)
        for part in (data.train_labels[rows], data.test_labels[tested])
    )
    accuracy = knn_accuracy(features[0], bank_labels, features[1], labels, config.k)
    print(f"KNN accuracy: {accuracy:.2f}, feature space: {encoder.name}")
    return accuracy
