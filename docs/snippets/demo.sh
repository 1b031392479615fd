# generates a competition of drawn faces, trains three models, blends them; about five minutes
dfens demo demo
# what is done, and what to run next
dfens -C demo status
