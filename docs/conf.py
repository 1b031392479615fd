"""Sphinx configuration of the guide; `make docs` builds it into docs/_build with MyST and Furo."""

import sys
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer  # type: ignore[import-untyped]

_DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(_DOCS.parent))

from docs.reference import write_reference  # noqa: E402  (needs the path above)

project = "dfens"
author = "The dfens developers"
extensions = ["myst_parser"]
exclude_patterns = ["_build", "snippets", "figures"]
html_theme = "furo"
html_title = "dfens"
html_show_copyright = False
html_show_sphinx = False
myst_heading_anchors = 4
nitpicky = True


def _set_language(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Set the HTML language of the Chinese pages, for fonts and screen readers."""
    if page.startswith("zh/"):
        context["language"] = "zh-CN"


def setup(app: Any) -> None:
    """Write the reference before Sphinx looks for pages."""
    write_reference(_DOCS / "reference")
    # GitHub renders mermaid diagrams; this site loads no external scripts, so it shows their source
    app.add_lexer("mermaid", TextLexer)
    app.connect("html-page-context", _set_language)
