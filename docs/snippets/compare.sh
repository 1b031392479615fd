# paired differences on the same rows, with intervals
dfens -C demo compare resnet10 resnet14 seresnext26
# AUC after JPEG compression, blur, noise and downscaling
dfens -C demo compare resnet10 resnet14 --robustness
