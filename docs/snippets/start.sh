mkdir ffdi && cd ffdi
dfens init --recipe ffdi-baseline
dfens download
