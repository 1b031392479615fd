"""The workspace of a project: paths of its files, and access to settings and stores."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from oof.errors import ConfigError, DataError, FoldError
from oof.paths import check_path, resolve_path

if TYPE_CHECKING:
    from dfens.workspace.config import Config
    from ensemble.blend_store import BlendStore
    from oof.store import PredictionStore
    from trainers.data.competition import Competition

CONFIG_NAME = "dfens.toml"


class Workspace:
    """A project folder: one dfens.toml and the folder work/ next to it.

        root/
        ├── dfens.toml
        └── work/
            ├── oof/            folds, test ids, predictions (PredictionStore)
            ├── trainers/       checkpoints, histories, image cache, features
            ├── ensemble/       blends (BlendStore)
            ├── submissions/    tables, ledger, downloads
            └── reports/        lists, plots, pages

    Each path has one method here, so that no other module builds paths. Nothing is created before it is
    written to. Settings and stores are opened on first use.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        check_path(self.root)
        self.config_path = self.root / CONFIG_NAME
        self.work_dir = self.root / "work"
        self.trainers_dir = self.work_dir / "trainers"
        self.ensemble_dir = self.work_dir / "ensemble"
        self.submissions_dir = self.work_dir / "submissions"
        self.reports_dir = self.work_dir / "reports"

    def resolve(self, path: str | Path) -> Path:
        """Return a path given by the user, in an option or in dfens.toml, as an absolute path.

        `~` is the home folder, and a relative path is relative to the project folder: with -C DIR that is DIR, as
        for git and make.
        """
        return resolve_path(self.root, path)

    def resolve_output(self, path: str | Path, *, force: bool = False) -> Path:
        """Return the path of an output file given by the user, which must not exist unless `force`.

        Raises:
            ConfigError: if it exists.
        """
        found = self.resolve(path)
        if not force and (found.exists() or found.is_symlink()):
            raise ConfigError(f"{found} exists. Choose another name, or give --force to replace it.")
        return found

    def shown(self, path: Path) -> str:
        """Return a path for messages: relative to the project folder if it is inside."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    # ---- settings and stores ------------------------------------------------

    @cached_property
    def config(self) -> "Config":
        """The settings in dfens.toml, or defaults in a folder with imported predictions but without a dfens.toml."""
        from dfens.workspace.config import parse_config, read_config

        if not self.config_path.exists() and self.predictions.has_folds():
            return parse_config({}, self.root)
        return read_config(self.config_path)

    @cached_property
    def predictions(self) -> "PredictionStore":
        """The store of OOF and test predictions."""
        from oof.store import PredictionStore

        return PredictionStore(self.work_dir / "oof")

    @cached_property
    def blends(self) -> "BlendStore":
        """The store of blends."""
        from ensemble.blend_store import BlendStore

        return BlendStore(self.ensemble_dir)

    def competition(self) -> "Competition":
        """Read the rows and files of the competition; sealed rows are separate from the training rows, without labels.

        Raises:
            FoldError: if [folds] sealed differs from the value with which the folds were made.
        """
        return self.whole_competition().set_apart(self.sealed_ids())

    def whole_competition(self) -> "Competition":
        """Read the rows and files with sealed rows among the training rows, for code that does not read labels."""
        from trainers.data.layouts import read_competition

        with self.reading_data():
            return read_competition(self.config.data, self.quarantine_path())

    @contextlib.contextmanager
    def reading_data(self) -> Iterator[None]:
        """Report data that cannot be read in a folder without a dfens.toml as the missing dfens.toml.

        Raises:
            ConfigError: in a folder with imported predictions but without a dfens.toml, whose data is in no usual
                place either.
        """
        try:
            yield
        except DataError as err:
            if self.config_path.exists():
                raise
            raise ConfigError(
                f"There is no {self.config_path.name} in {self.root}, which describes the files of the competition. "
                f"Run dfens init to write one, or name the folder of an existing one with -C DIR."
            ) from err

    def sealed_ids(self) -> Sequence[str]:
        """Return the ids of the sealed rows.

        Raises:
            FoldError: if [folds] sealed differs from the value with which the folds were made, so rows to be sealed
                would be used.
        """
        share, store = self.config.folds.sealed, self.predictions
        if not store.has_folds():
            if not share:
                return ()
            raise FoldError(f"[folds] sealed = {share:g}, but no rows are sealed yet. Run dfens folds first.")
        made = store.folds.how.get("sealed", 0.0)
        if made != share:
            raise FoldError(
                f"[folds] sealed = {share:g}, but the folds were made with {made}. Set it back, or run dfens folds "
                f"(with --force if there are trained models, which are then moved to the archive)."
            )
        return list(store.sealed_ids)

    # ---- trainers -----------------------------------------------------------

    def quarantine_path(self) -> Path:
        """Return the path of the list of files that [data] skip_broken leaves out."""
        return self.trainers_dir / "quarantine.json"

    def image_cache_dir(self) -> Path:
        """Return the folder of resized images."""
        return self.trainers_dir / "cache"

    def clips_dir(self) -> Path:
        """Return the folder of features extracted from clips."""
        return self.trainers_dir / "clips"

    def _seed_dir(self, model: str, seed: int) -> Path:
        folder = self.trainers_dir / model
        return folder / f"seed{seed}" if seed else folder

    def seed_count(self, model: str) -> int:
        """Return the number of a model's seeds that have a folder."""
        return 1 + sum(path.is_dir() for path in (self.trainers_dir / model).glob("seed*"))

    def fold_lock(self, model: str, fold: int, seed: int = 0, *, refit: bool = False) -> Path:
        """Return the lock that a process holds while it trains one fold, or the refit on all rows."""
        return self._seed_dir(model, seed) / ("refit" if refit else f"fold{fold}") / ".lock"

    def test_lock(self, model: str, seed: int = 0) -> Path:
        """Return the lock that a process holds while it predicts the test rows with a model."""
        return self._seed_dir(model, seed) / ".test.lock"

    def history_path(self, model: str, fold: int, seed: int = 0) -> Path:
        """Return the path of the training history of one fold."""
        return self._seed_dir(model, seed) / f"fold{fold}" / "history.json"

    def refit_history_path(self, model: str, seed: int = 0) -> Path:
        """Return the path of the training history of a refit on all rows."""
        return self._seed_dir(model, seed) / "refit" / "history.json"

    def settings_path(self, model: str) -> Path:
        """Return the path of the record of the settings with which a model was trained."""
        return self.trainers_dir / model / "settings.json"

    def deciding_path(self, model: str, fold: int) -> Path:
        """Return the path of the deciding moments of a fold's held-out clips."""
        return self.trainers_dir / model / f"fold{fold}" / "deciding.parquet"

    # ---- submissions --------------------------------------------------------

    def can_submit(self) -> bool:
        """Return whether there is a competition with rows to predict; imported predictions may have neither."""
        store = self.predictions
        return self.config_path.exists() and store.test_ids_path.exists() and len(store.test_ids) > 0

    def ledger_path(self) -> Path:
        """Return the default path of the ledger, used unless [submissions] ledger is set."""
        return self.submissions_dir / "ledger.sqlite"

    def download_dir(self) -> Path:
        """Return the folder of the state of downloads and their archives."""
        return self.submissions_dir / "download"

    def sent_dir(self) -> Path:
        """Return the folder of submitted files."""
        return self.submissions_dir / "sent"

    def table_path(self, name: str) -> Path:
        """Return the path of a submission table written by `dfens submit --dry-run`."""
        return self.submissions_dir / f"{name}.csv"

    def rebuilt_path(self, file_name: str) -> Path:
        """Return the path of a rebuilt submission file; only the last part of a name from the ledger is used."""
        name = Path(file_name).name
        return self.submissions_dir / "rebuilt" / (name if name not in ("", "..") else "submission.csv")

    def leaderboard_path(self) -> Path:
        """Return the path of the downloaded public leaderboard."""
        return self.submissions_dir / "leaderboard.zip"

    def own_team_path(self) -> Path:
        """Return the path of the file with your team's name on the leaderboard."""
        return self.submissions_dir / "leaderboard_team.json"

    def submission_plot(self, name: str) -> Path:
        """Return the path of a plot of submissions: finals, cv_and_public or history."""
        return self.submissions_dir / f"{name}.png"

    # ---- reports ------------------------------------------------------------

    def check_dir(self) -> Path:
        """Return the folder of the full lists of `dfens check`."""
        return self.reports_dir / "check"

    def label_issues_path(self, model: str, ending: str) -> Path:
        """Return the path of the label issues found by `dfens diagnose`: the list (csv) or their images (png)."""
        return self.reports_dir / "diagnose" / model / f"label_issues.{ending}"

    def compare_plot(self, models: Sequence[str], name: str) -> Path:
        """Return the path of a plot of `dfens compare`: gains or robustness."""
        folder = "-vs-".join(models)
        if len(folder) > 100:  # names that are cut must not be those of another comparison
            folder = f"{folder[:91]}-{hashlib.sha256(folder.encode()).hexdigest()[:8]}"
        return self.reports_dir / "compare" / folder / f"{name}.png"

    def modalities_path(self) -> Path:
        """Return the path of the scores of `dfens compare --modalities`, shown in the report."""
        return self.reports_dir / "compare" / "modalities.json"

    def groupings_path(self) -> Path:
        """Return the path of the scores of `dfens groups`, shown in the report."""
        return self.reports_dir / "groups.json"

    def duplicates_path(self) -> Path:
        """Return the path of the sets of near-duplicates among the training images, found by `dfens groups`."""
        return self.reports_dir / "duplicates.parquet"

    def finals_path(self) -> Path:
        """Return the path of the pair recommended by `dfens submissions select`, shown in the report."""
        return self.submissions_dir / "finals.json"

    def ablation_plot(self, model: str) -> Path:
        """Return the path of the plot of `dfens ablate`."""
        return self.reports_dir / "ablate" / f"{model}.png"

    def report_page(self) -> Path:
        """Return the path of the page of `dfens report`; report.json is next to it."""
        return self.reports_dir / "report.html"
