dfens recipes                          # every recipe with what it reproduces
dfens init jtgroup --recipe ffdi-jtgroup
