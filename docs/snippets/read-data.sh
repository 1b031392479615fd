dfens -C demo check          # counts, balance, sizes, broken, duplicate and leaking files
dfens -C demo groups         # near-duplicates, clusters, and what each way to fold would report
dfens -C demo folds          # who trains with whom, fixed once for all models
