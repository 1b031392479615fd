"""A blend as text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dfens.views.tables import FittedTable, make_table

if TYPE_CHECKING:
    from dfens.workflows.blend import NewBlend
    from ensemble.calibration import CalibrationReport


def show_blend(found: "NewBlend", *, verbose: bool = False) -> "Iterator[FittedTable | str]":
    """Show members, scores compared with simpler blends, whether the gain is significant, and the next command."""
    yield _member_table(found)
    if verbose:
        yield _method_table(found)
    result, name = found.result, found.name
    method = result.method if verbose else result.method.split(":")[0]
    low, high = result.nested_interval
    yield (
        f"Blend '{name}': {method}. Nested {result.metric} {result.nested_score:.5f}, 95 % interval {low:.5f} to "
        f"{high:.5f}."
    )
    if "weights" not in result.fitted:
        yield rows_of_scores(name, result.summary.score_of, result.summary.nested_score_of)
    if found.features:
        share = sum(item.share for item in result.methods if item.name == "boosted trees")
        yield f"Features of the rows, read by boosted trees (share {share:.0%}): {', '.join(found.features)}."
    several = len(result.names) > 1
    for item in result.comparisons if several else ():
        yield (
            f"Against {item.other}: {item.gain:+.5f} nested, 95 % interval {item.interval[0]:+.5f} to "
            f"{item.interval[1]:+.5f}, p = {item.p_value:.2g}."
        )
    if result.calibration is not None:
        loss, error = result.calibration.log_loss, result.calibration.calibration_error
        yield (
            f"Calibration ({result.calibration.method}): nested log loss {loss[0]:.5f} before, {loss[1]:.5f} after; "
            f"calibration error {error[0]:.4f} before, {error[1]:.4f} after."
        )
        yield _reliability_table(result.calibration)
    yield result.verdict if several else "It has one member, so nothing can be gained yet. Train or import others."
    yield from (f"Warning: {text}" for text in result.warnings)
    if found.archived is not None:
        yield f"The earlier blend '{name}' was moved to {found.archived}"
    if found.has_test:
        yield f"Stored in {found.path}"
    else:
        yield f"Stored in {found.path}, without test predictions, since the members have none."
    yield f"Next: {found.next}"


def rows_of_scores(name: str, score_of: str, nested_score_of: str) -> str:
    """Return a sentence on the rows of the scores of a blend, for those without fitted weights."""
    if score_of == nested_score_of:
        return f"Both scores of '{name}' are of {score_of}."
    return f"The score of '{name}' is of {score_of}. Its nested score is of {nested_score_of}."


def _score_heading(found: "NewBlend") -> str:
    rows = "the rows fitted" if "weights" in found.result.fitted else "all rows"
    return f"{found.result.metric} on {rows}"


def _member_table(found: "NewBlend") -> FittedTable:
    result = found.result
    metric = result.metric
    fitted, nested = _score_heading(found), f"nested {metric}"
    order = sorted(range(len(result.names)), key=lambda index: -result.weights[index])
    empty: dict[str, Any] = dict.fromkeys(["", "weight", f"OOF {metric}", fitted, nested])
    rows = [
        empty | {"": result.names[i], "weight": result.weights[i], f"OOF {metric}": result.single_scores[i]}
        for i in order
    ]
    rows += [
        empty | {"": other, fitted: score, nested: nested_score}
        for other, (score, nested_score) in result.references.items()
        if len(result.names) > 1  # a single member equals each of them
    ]
    rows.append(empty | {"": f"blend '{found.name}'", fitted: result.score, nested: result.nested_score})
    title = f"Members of '{found.name}'" + (", and scores of simpler blends" if len(result.names) > 1 else "")
    return make_table(rows, title=title, bold=len(rows) - 1)


def _reliability_table(found: "CalibrationReport") -> FittedTable:
    """Return mean prediction and share of positives in bins of equally many rows, before and after calibration."""
    rows = [
        {
            "rows": before.rows,
            "mean before": before.mean_prediction,
            "positives before": before.positive_share,
            "mean after": after.mean_prediction,
            "positives after": after.positive_share,
        }
        for before, after in zip(found.before, found.after, strict=True)
    ]
    return make_table(
        rows, title="Reliability: nested predictions and share of positives, in bins of equally many rows"
    )


def _method_table(found: "NewBlend") -> FittedTable:
    metric = found.result.metric
    rows = [
        {
            "method": method.name,
            _score_heading(found): method.score,
            f"nested {metric}": method.nested_score,
            "share": method.share,
            "seconds": f"{method.seconds:.2f}",
        }
        for method in found.result.methods
    ]
    return make_table(
        rows, title="Methods compared, and their share in the blend", percent=["share"], optional=["seconds"]
    )
