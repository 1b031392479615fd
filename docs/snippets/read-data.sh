# counts, balance, sizes, broken, duplicate and leaking files
dfens -C demo check
# near-duplicates, clusters, and what each way to fold would report
dfens -C demo groups
# who trains with whom, fixed once for all models
dfens -C demo folds
