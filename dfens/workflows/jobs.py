"""Training jobs of a workspace."""

from collections.abc import Mapping

from dfens.workspace.paths import Workspace
from trainers.data.competition import Competition
from trainers.jobs.job import TrainingJob
from trainers.kinds.base import ModelSettings


def make_job(
    workspace: Workspace, models: Mapping[str, ModelSettings], *, threads: int, competition: Competition | None = None
) -> TrainingJob:
    """Return a job for models; competition: None to read that of the workspace."""
    return TrainingJob(
        workspace.competition() if competition is None else competition,
        workspace.predictions.root,
        models,
        workspace.trainers_dir,
        threads=threads,
        root=workspace.root,
        cache_dir=workspace.image_cache_dir(),
        max_parameters=workspace.config.competition.max_parameters,
        folds=workspace.predictions.folds.fingerprint,
    )
