"""The generated competitions of `dfens demo`.

A competition is a module with `make_competition(folder, *, train_rows, test_rows, progress)`, which writes the data, a
dfens.toml and truth.csv (id and target of the test rows; a column `forgery`, where there is one, names the kind of each
fake), `STEPS`, the commands to run on it, and `ROWS`, the default number of training rows.
"""

TRUTH = "truth.csv"
# recipe of dfens init -> module of its competition
COMPETITIONS = {"demo": "dfens.demo.competition", "demo-av": "dfens.demo.clips"}
