module istiovm/apps

go 1.26.0
