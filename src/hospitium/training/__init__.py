"""Local training at a site; torch and MONAI live here and nowhere else."""

from hospitium.training.trainer import (
    TrainedParams,
    Trainer,
    TrainingCases,
    can_build,
    trainer_for,
)

__all__ = ["TrainedParams", "Trainer", "TrainingCases", "can_build", "trainer_for"]
