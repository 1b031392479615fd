"""A look at the sealed rows as text."""

from collections.abc import Iterator

from dfens.workflows.unseal import Unsealed


def show_unsealed(found: Unsealed) -> Iterator[str]:
    """Show the score on the sealed rows, the nested score, and the number of looks."""
    look = found.look
    yield (
        f"Blend '{look.blend}' on {look.rows} sealed rows: {look.metric} {look.score:.5f}, 95 % interval "
        f"{look.low:.5f} to {look.high:.5f}. Nested, on the other rows: {look.nested_score:.5f}."
    )
    if not found.is_new:
        yield f"This is the score recorded on {look.time}; the blend is the same, so nothing was scored again."
    yield f"The sealed rows were {found.count}."
    if len(found.looks) > 1:
        yield "Choosing by these scores inflates them; only the first look was unaffected by any choice."
