dfens demo demo              # draws a competition of faces, trains three models, blends them; about five minutes
dfens -C demo status         # what is done, and what to run next
