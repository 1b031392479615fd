dfens train
dfens blend --name first
dfens train --pseudo first     # the models again, as NAME-pseudo1
dfens blend --name second
