# paired differences on the same rows, with intervals
dfens -C demo compare resnet10 resnet14 seresnext26
# AUC under JPEG, blur, noise and smaller sizes
dfens -C demo compare resnet10 --robustness
