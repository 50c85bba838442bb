"""The hyper-parameters of LRA-diffusion that the training loop reads."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Rates and epochs of a run; epochs count from 1."""

    nepoch: int  # epochs to train
    batch_size: int  # images a step
    lr: float  # peak learning rate of Adam
    warmup_epochs: int  # epochs in which the learning rate rises linearly
    lr_horizon: int  # epochs after which its cosine ends at 0
    ddim_n_step: int = 10  # S, steps of the reverse diffusion
    weighted: bool = True  # a drawn label weighs as often as it is among the candidates
    drop_last: bool = False  # leave out a smaller last batch
    freeze_encoder: bool = False  # leave the diffusion encoder at its first weights
    # As the published code: the encoder normalises test images by their own batch, and its running
    # statistics learn from them.
    batch_statistics: bool = False
    eval_every: int = 1  # epochs from one evaluation to the next
    eval_weights: str = "best"  # raw, ema, or the better of both on the validation images
    select: str = "val"  # the images whose accuracy chooses the best epoch: val or test
    legacy: bool = False  # evaluate in the epochs in which the published code does
    seed: int = 123
