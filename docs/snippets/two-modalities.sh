dfens oof import picture --oof picture_oof.csv --test picture_test.csv
dfens oof import sound --oof sound_oof.csv --test sound_test.csv
dfens oof diversity --leave-one-out    # what does each add to the blend?
dfens blend --name av
