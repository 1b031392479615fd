dfens recipes                          # lists the recipes and what they reproduce
dfens init jtgroup --recipe ffdi-jtgroup
