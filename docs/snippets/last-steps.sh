dfens blend --optimize auc
dfens report
dfens submit --dry-run                 # builds and checks the table without uploading it
dfens submit --wait
