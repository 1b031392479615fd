"""The report: facts of a workspace as values, and those values as one self-contained HTML page.

Facts flow one way: `inputs` reads the stores, each panel module turns the inputs into a frozen
dataclass, and `page` renders the dataclasses. `report.json` holds the same values as the page.
"""
