"""Train models over folds: finished folds are skipped, others resumed, and each name has one set of settings."""

from collections.abc import Sequence

from oof.progress import SILENT, Progress
from trainers.jobs.job import FoldResult, TrainingJob
from trainers.jobs.run import Engine, run_job, train_here

__all__ = ["Engine", "FoldResult", "TrainingJob", "train_here", "train_models"]


def train_models(
    job: TrainingJob,
    folds: Sequence[int],
    *,
    engine: Engine = train_here,
    force: bool = False,
    progress: Progress = SILENT,
) -> list[FoldResult]:
    """Train each model on each fold, and store its OOF and test predictions.

        work_dir/
        ├── NAME/
        │   ├── settings.json           settings, folds and images used for training
        │   ├── test-…/                 unfinished test predictions
        │   └── fold0/
        │       ├── state.pt, good.pt   checkpoints of the running training; removed when the fold is done
        │       ├── weights.safetensors weights used for prediction (other names for some kinds)
        │       └── history.json        loss and AUC by epoch, and the provenance of the fold
        └── archive/                    models replaced by --force

    Two processes may train different folds of one model at the same time; a fold is trained by one process while others
    wait. The test rows are predicted after the last fold of each model, by all of its fold models together.

    Args:
        job: models, rows and folders.
        folds: which folds to train.
        engine: function that trains the folds: `train_here`, or one that uses several processes or machines.
        force: retrain models whose settings changed; the old ones move to the archives.

    Returns:
        The outcome of each fold, by model and fold.

    Raises:
        DfensError: if settings cannot work (checked for all models before anything is trained) or differ from those
            that a model was trained with (unless `force`), or if the training fails.
    """
    return run_job(job, folds, engine=engine, force=force, progress=progress)
