# counts, balance, sizes, broken, duplicate and leaking files
dfens -C demo check
# near-duplicates, clusters, and the score with each kind of folds
dfens -C demo groups
# assign rows to folds, once for all models
dfens -C demo folds
