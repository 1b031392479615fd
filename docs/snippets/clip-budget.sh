du -sh work/trainers/clips             # what the features take on disk
dfens extract --remove                 # removes them all
