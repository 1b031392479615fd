"""Train models over folds: finished folds are skipped, others resumed, and no name stands for two settings."""

from collections.abc import Sequence

from oof.progress import SILENT, Progress
from trainers.jobs.run import Engine, run_job, train_here
from trainers.jobs.runner import FoldResult, TrainingJob

__all__ = ["Engine", "FoldResult", "TrainingJob", "train_here", "train_models"]


def train_models(
    job: TrainingJob,
    folds: Sequence[int],
    *,
    engine: Engine = train_here,
    force: bool = False,
    progress: Progress = SILENT,
) -> list[FoldResult]:
    """Train each model on each fold, and store OOF and test predictions.

        work_dir/
        ├── NAME/
        │   ├── settings.json           settings, folds and images that it is trained with
        │   ├── test-…/                 test predictions that are not finished
        │   └── fold0/
        │       ├── state.pt, good.pt   of the running training; removed when the fold is done
        │       ├── weights.safetensors what the fold predicts with (other names for some kinds)
        │       └── history.json        loss and AUC by epoch, and what the fold was made with
        └── archive/                    what --force replaced

    Two processes may train different folds of one model at once; of one fold only one trains, the other waits. The test
    rows are predicted after the last fold of each model, by all its fold models at once.

    Args:
        job: models, rows and folders.
        folds: which folds to train.
        engine: what trains the folds: `train_here`, or one that uses many processes or machines.
        force: retrain models whose settings changed; the old ones move to the archives.

    Returns:
        The outcome of each fold, by model and fold.

    Raises:
        DfensError: settings that cannot work, found in all models before anything is trained; settings that differ from
            those a model was trained with (unless `force`); what the training itself raises.
    """
    return run_job(job, folds, engine=engine, force=force, progress=progress)
