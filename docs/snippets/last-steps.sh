dfens blend --optimize auc
dfens report
dfens submit --dry-run                 # the checked table, without sending it
dfens submit --wait
