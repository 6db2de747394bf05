"""Local training at a site; torch and MONAI live here and nowhere else."""

from hospitium.training.trainer import TrainedParams, Trainer, TrainingCases, trainer_for

__all__ = ["TrainedParams", "Trainer", "TrainingCases", "trainer_for"]
