# one fold first: does it learn at all?
dfens -C demo train --model resnet14 --fold 0
# all folds of all models; resumes where it stopped
dfens -C demo train --fold 0-4
# AUC fold by fold, and over all rows
dfens -C demo oof list
# overfitting, label issues, score by cluster
dfens -C demo diagnose resnet14
