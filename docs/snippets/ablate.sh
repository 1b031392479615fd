dfens -C demo ablate resnet14 --set jpeg=0.5 --set self_blend=0.3 --fold 0,1
# two settings changed together in one variant
dfens -C demo ablate resnet14 --set jpeg=0.5,blur=0.3
