python -m docs.figures.self_blend steps.png    # in the source tree of dfens
