dfens check --leaks                    # all training files; without --leaks a sample
